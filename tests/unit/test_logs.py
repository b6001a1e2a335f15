"""An application's output, made fit to be kept and shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.logs import KEPT_BYTES, KEPT_LINES, MASK, cleaned, fails_repeatedly

SECRET = "0123456789abcdef" * 4


def test_the_last_lines_are_kept() -> None:
    text = cleaned("".join(f"line {n}\n" for n in range(1000)))
    assert text.splitlines() == [f"line {n}" for n in range(1000 - KEPT_LINES, 1000)]


def test_no_more_bytes_than_are_kept_and_whole_lines() -> None:
    text = cleaned(("ä" * 500 + "\n") * 150)
    assert len(text.encode()) <= KEPT_BYTES
    assert set(text.splitlines()) == {"ä" * 500}


def test_of_one_endless_line_the_end_is_kept() -> None:
    text = cleaned("x" * 200_000 + "end")
    assert text.endswith("end\n")
    assert len(text.encode()) <= KEPT_BYTES + 1


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("\x1b[31mred\x1b[0m and \x1b[1;4mbold\x1b[m\n", "red and bold\n"),
        ("\x1b]0;a title\x07text\x1b]8;;http://x\x1b\\link\n", "textlink\n"),
        ("10 %\r50 %\r100 %\nnext\r\n", "100 %\nnext\n"),
        ("a\x00b\x07c\x08d\x7fe\x9bf\n", "abcdef\n"),
        ("safe\u202etxt.exe\n", "safetxt.exe\n"),
        ("tab\tstays\n", "tab\tstays\n"),
        ("\n\n\n", ""),
        ("", ""),
        ("<script>alert(1)</script>\n", "<script>alert(1)</script>\n"),
    ],
)
def test_terminals_signs_are_taken_out(printed: str, shown: str) -> None:
    assert cleaned(printed) == shown


@pytest.mark.parametrize(
    "printed",
    [
        f"http://127.0.0.1:8888/lab?token={SECRET}\n",
        f"{SECRET}{SECRET}\n",
        f"token \x1b[32m{SECRET[:20]}\x1b[0m{SECRET[20:]}\n",
        f"{SECRET[:30]}\x00{SECRET[30:]}\n",
        "x" * 40_000 + SECRET + "y" * (KEPT_BYTES - 20),
    ],
)
def test_secrets_are_masked_however_they_are_printed(printed: str) -> None:
    """Also where the part that is kept begins amid one."""
    text = cleaned(printed, [SECRET, ""])
    assert SECRET not in text
    assert SECRET[-20:] not in text
    assert MASK in text or len(printed) > KEPT_BYTES


@given(st.text(max_size=4000))
def test_whatever_is_printed_comes_out_bounded_and_plain(printed: str) -> None:
    text = cleaned(printed)
    assert len(text.encode(errors="replace")) <= KEPT_BYTES + 1
    assert text.count("\n") <= KEPT_LINES
    assert not any(ord(sign) < 32 and sign not in "\n\t" for sign in text)
    assert cleaned(text) == text


RSERVER = (
    "rserver[{0}]: ERROR system error 98 (Address already in use) [address: 0.0.0.0, port: 8787]; OCCURRED AT x; "
    "LOGGED FROM: int main(int, char* const*) /src/cpp/server/ServerMain.cpp:438\n"
)


def test_what_fails_three_times_fails_again_and_again() -> None:
    patterns = [r"never", r"rserver\S* ERROR .*LOGGED FROM: int main\("]
    lines = [RSERVER.format(number) for number in (134, 150, 166)]
    assert fails_repeatedly("".join(lines), patterns)
    assert not fails_repeatedly("".join(lines[:2]), patterns)
    assert not fails_repeatedly("".join(lines), [])

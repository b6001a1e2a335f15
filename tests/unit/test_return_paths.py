"""Where somebody wanted to go, as a parameter: every path comes back, and none grows on the way."""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64encode
from urllib.parse import parse_qs, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.return_paths import LINK_MAX, RETURN_PATH_MAX, SHORT, as_parameter, from_parameter

SIGNS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FFF), max_size=3000)


@given(SIGNS)
def test_every_path_comes_back(text: str) -> None:
    path = f"/{text}"
    [decoded] = parse_qs(f"next={as_parameter(path)}")["next"]
    assert from_parameter(decoded) == path


def test_a_short_path_stays_readable() -> None:
    assert as_parameter("/lab/tree/a b.ipynb?x=1") == "%2Flab%2Ftree%2Fa%20b.ipynb%3Fx%3D1"


def test_a_long_one_fits_into_an_address_however_often_it_is_put_into_one() -> None:
    """In an address in an address in an address, at the worst that can be sent: signs that compress badly."""
    path = "/x?q=" + "".join(chr(0x21 + number * 2654435761 % 94) for number in range(LINK_MAX - 5))
    address = f"/instances/0123456789abcdef/open?next={as_parameter(path)}"
    for _ in range(3):
        address = f"/sign-in?next={as_parameter(address)}"
    assert len(address) < RETURN_PATH_MAX


@pytest.mark.parametrize(
    "text",
    [
        "~",
        "~x",
        "~%%%",
        "~" + urlsafe_b64encode(zlib.compress(b"/x"))[:-6].decode(),
        "~" + urlsafe_b64encode(zlib.compress(b"/\xff")).decode(),
        "~" + urlsafe_b64encode(zlib.compress(b"/" * (RETURN_PATH_MAX + 1))).decode(),
        "~" + urlsafe_b64encode(zlib.compress(bytes(50_000_000))).decode(),
    ],
    ids=["nothing", "no compression", "no base64", "cut short", "no text", "too long", "a bomb"],
)
def test_what_is_no_packed_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="packed path"):
        from_parameter(text)


def test_what_is_plain_is_taken_as_it_is() -> None:
    assert from_parameter("/x~y") == "/x~y"
    assert len(quote("/" * SHORT, safe="")) > len(as_parameter("/" * SHORT))

"""What a redirect tells on the next page: our texts only, about things that the platform itself named."""

from __future__ import annotations

from datetime import UTC, datetime

from launchpad.web.pages.flash import Text, read, told

TEXTS = {"extended": Text("done", "Extended.", "{about} extended until {until}"), "bye": Text("done", "Signed out.")}
UNTIL = datetime(2026, 11, 28, 15, 7, tzinfo=UTC)


def test_it_names_the_thing_and_the_moment() -> None:
    flash = read("key", told("key", "extended", "JupyterLab", UNTIL), TEXTS)
    assert flash is not None
    assert flash.parts == ("JupyterLab", " extended until ", UNTIL)


def test_what_this_login_did_not_seal_tells_no_more_than_its_code() -> None:
    sealed = told("key", "extended", "JupyterLab", UNTIL)
    forged = (
        sealed.replace(".", ".A", 1),
        sealed[:-1] + ("0" if sealed[-1] != "0" else "1"),
        told("another", "extended", "Your bank", UNTIL),
        "extended",
        "extended..",
        "extended.W10.x",
    )
    for said in forged:
        flash = read("key", said, TEXTS)
        assert flash is not None
        assert flash.parts == ("Extended.",)
    assert read("", sealed, TEXTS).parts == ("Extended.",)  # type: ignore[union-attr]


def test_a_seal_is_for_its_code() -> None:
    texts = {**TEXTS, "other": Text("done", "Other.", "{about} is other")}
    said = told("key", "extended", "JupyterLab").replace("extended", "other", 1)
    assert read("key", said, texts).parts == ("Other.",)  # type: ignore[union-attr]


def test_what_is_no_code_of_ours_tells_nothing() -> None:
    assert read("key", "", TEXTS) is None
    assert read("key", "hello <b>", TEXTS) is None


def test_without_a_thing_the_plain_text_serves() -> None:
    assert read("key", told("key", "bye", "x"), TEXTS).parts == ("Signed out.",)  # type: ignore[union-attr]
    assert read("", told("", "extended", "JupyterLab"), TEXTS).parts == ("Extended.",)  # type: ignore[union-attr]

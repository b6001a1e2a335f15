"""Addresses and codes: what is taken, and in which one spelling."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launchpad.domain.signin import (
    ADDRESS_MAX,
    code_digest,
    domain_allowed,
    new_code,
    new_secret,
    normalise_address,
    normalise_code,
    secret_digest,
)

NUS = ("nus.edu.sg", "u.nus.edu")
near_addresses = st.builds(
    lambda local, at, domain: local + at + domain,
    st.text(st.sampled_from("aZ0.+-_'\" \t\r\n\0\u212a\u0131é<>,;()"), min_size=1, max_size=12),
    st.sampled_from(["@", "@@", "\uff20", ""]),
    st.sampled_from(
        ["nus.edu.sg", "NUS.EDU.SG", "xn--bcher-kva.de", "[127.0.0.1]", "localhost", "x.edu\nBcc: b@x.edu"]
    ),
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("alice@nus.edu.sg", "alice@nus.edu.sg"),
        ("  Alice@NUS.edu.SG \n", "alice@nus.edu.sg"),
        ("o'neil+lab@u.nus.edu", "o'neil+lab@u.nus.edu"),
        ("a.b-c_d@x.co", "a.b-c_d@x.co"),
        ("bob@xn--bcher-kva.de", "bob@xn--bcher-kva.de"),
    ],
)
def test_an_address_has_one_spelling(text: str, address: str) -> None:
    assert normalise_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "@nus.edu.sg",
        "alice@",
        "a@b@nus.edu.sg",
        "alice@nus",
        "alice@localhost",
        "alice@[127.0.0.1]",
        "alice@127.0.0.1",
        "alice@nus..edu.sg",
        ".alice@nus.edu.sg",
        "alice @nus.edu.sg",
        '"alice b"@nus.edu.sg',
        "Alice <alice@nus.edu.sg>",
        "alice@nus.edu.sg,bob@nus.edu.sg",
        "alice@nus.edu.sg\nBcc: bob@x.edu",
        "alice@nus.edu.sg\r\nBcc: bob@x.edu",
        "alice\n@nus.edu.sg",
        "alice\0@nus.edu.sg",
        "\u0430lice@nus.edu.sg",
        "alice@nus.edu.\u0455g",
        "alice@\uff4eus.edu.sg",
        "müller@x.edu",
        "a" * 300 + "@nus.edu.sg",
        "a@" + ".".join(["b" * 60] * 5) + ".edu",
    ],
)
def test_what_no_code_can_be_sent_to_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        normalise_address(text)


@pytest.mark.slow
@given(st.one_of(st.text(max_size=40), near_addresses, st.emails()))
@example("a@xn--bcher-kva.de")
@example("A@XN--BCHER-KVA.DE")
def test_whatever_is_taken_is_in_its_one_spelling_on_one_line(text: str) -> None:
    try:
        address = normalise_address(text)
    except ValueError:
        return
    assert normalise_address(address) == address == address.lower()
    assert normalise_address(text.upper()) == address
    assert address.isascii()
    assert address.isprintable()
    assert not set(address) & set(' ,;<>"\r\n\0')
    assert address.count("@") == 1
    assert len(address) <= ADDRESS_MAX


@pytest.mark.slow
@given(st.emails())
def test_usual_addresses_of_public_domains_are_taken(text: str) -> None:
    local = text.rpartition("@")[0]
    assert normalise_address(f"{local}@nus.edu.sg") == f"{local.lower()}@nus.edu.sg"


@pytest.mark.parametrize("address", ["a@nus.edu.sg", "a@u.nus.edu"])
def test_an_allowed_domain_is_let_in(address: str) -> None:
    assert domain_allowed(address, NUS)
    assert domain_allowed(address, ("NUS.edu.sg", "U.nus.edu"))


@pytest.mark.parametrize(
    "address",
    [
        "a@evilnus.edu.sg",
        "a@nus.edu.sg.evil.org",
        "a@sub.nus.edu.sg",
        "nus.edu.sg@evil.org",
        "a@edu.sg",
        "a@nus.edu.sgx",
    ],
)
def test_a_domain_that_only_resembles_an_allowed_one_is_not(address: str) -> None:
    assert not domain_allowed(address, NUS)


def test_without_a_list_every_domain_is_allowed() -> None:
    assert domain_allowed("a@anything.org", ())


def test_codes_are_six_digits_with_leading_zeros_and_spread() -> None:
    codes = [new_code() for _ in range(3000)]
    assert all(len(code) == 6 and code.isascii() and code.isdigit() for code in codes)
    assert len(set(codes)) > 2900
    assert {code[0] for code in codes} == set("0123456789")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("123456", "123456"),
        (" 123 456\n", "123456"),
        ("123-456", "123456"),
        ("abcde fghjk", "ABCDEFGHJK"),
        ("\uff15\uff11\uff19\uff12\uff13\uff10", "519230"),  # full width
        ("\uff15\uff11\uff19\u3000\uff12\uff13\uff10", "519230"),  # with the blank of the same width
        ("519\u2013230", "519230"),
        ("519\u2212230", "519230"),
        ("519\u00a0230\u200b", "519230"),
        ("\u202a519230\u202c", "519230"),
        ("\u0665\u0661\u0669\u0662\u0663\u0660", "519230"),  # Arabic-Indic
        ("\uff21bcde\uff12FGH\uff17", "ABCDE2FGH7"),
        ("", ""),
    ],
)
def test_a_code_is_read_without_the_blanks_that_came_along(text: str, code: str) -> None:
    assert normalise_code(text) == code


@given(st.text(max_size=200))
def test_a_typed_code_never_grows_and_holds_no_blank(text: str) -> None:
    code = normalise_code(text)
    assert len(code) <= 3 * 64  # upper-casing one letter can give three
    assert not any(sign.isspace() or sign == "-" for sign in code)


@given(st.text(max_size=12), st.text(max_size=12))
def test_a_codes_digest_is_bound_to_challenge_and_key(code: str, other: str) -> None:
    digest = code_digest(b"k", "c1", code)
    assert digest == code_digest(b"k", "c1", code)
    assert code not in digest or len(code) < 3
    assert digest not in (code_digest(b"k", "c2", code), code_digest(b"l", "c1", code))
    assert (digest == code_digest(b"k", "c1", other)) is (code == other)


def test_secrets_hold_256_bits_and_fit_a_url() -> None:
    secrets = {new_secret() for _ in range(500)}
    assert len(secrets) == 500
    assert all(len(secret) == 43 and secret.replace("-", "").replace("_", "").isalnum() for secret in secrets)
    assert len({secret_digest(secret) for secret in secrets}) == 500

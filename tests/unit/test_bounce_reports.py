"""Reading reports of undelivered mail: what mail servers send, and what strangers might."""

from __future__ import annotations

from time import perf_counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launchpad.domain.mail import FailureKind, find_status, reason_of
from launchpad.mail.bounces import RECIPIENTS, REPORT_BYTES, Bounce, read_bounces
from support.reports import EXIM, ORDINARY, POSTFIX, READ_RECEIPT, SES, report


@pytest.mark.parametrize(
    ("message", "bounce"),
    [
        (POSTFIX, Bounce(("alice@example.org",), "5.1.1")),
        (SES, Bounce(("bob@example.org",), "5.2.2")),
        (EXIM, Bounce(("carol@example.org",), "5.7.26")),
    ],
    ids=["Postfix", "Amazon SES", "Exim"],
)
def test_reports_of_servers_in_use_are_read(message: bytes, bounce: Bounce) -> None:
    assert read_bounces(message) == [bounce]
    assert read_bounces(message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")) == [bounce]


@pytest.mark.parametrize("message", [ORDINARY, READ_RECEIPT, b"", b"\n", POSTFIX.replace(b"/report", b"/mixed")])
def test_what_is_no_report_of_a_failure_tells_nothing(message: bytes) -> None:
    assert read_bounces(message) == []


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed", "expanded", ""])
def test_a_mail_that_may_still_arrive_has_not_failed(action: str) -> None:
    assert read_bounces(report("a@x.org", action="FAILED (for good)"))
    assert read_bounces(report("a@x.org", action=action)) == []


def test_a_forwarded_address_is_known_by_both_names_ours_first() -> None:
    message = POSTFIX.replace(b"Final-Recipient: rfc822; alice@example.org", b"Final-Recipient: rfc822; <al@else.org>")
    assert read_bounces(message) == [Bounce(("alice@example.org", "al@else.org"), "5.1.1")]


@pytest.mark.parametrize("address", ["", "alice", "alice@", "a@b@c.org", "x" * 300 + "@x.org", "älice@x.org", "@"])
def test_what_is_no_address_of_a_person_is_passed_over(address: str) -> None:
    assert read_bounces(report(address)) == []


@pytest.mark.parametrize("status", ["", "yes", "5", "5.1", "2.1.5", "9.1.1", "5.1.1.1", "5.1234.1"])
def test_a_status_that_means_no_failure_is_none(status: str) -> None:
    assert read_bounces(report("a@x.org", status)) == [Bounce(("a@x.org",), None)]


def test_of_many_recipients_some_are_taken() -> None:
    block = b"Final-Recipient: rfc822; a%d@x.org\nAction: failed\nStatus: 5.1.1\n\n"
    many = b"".join(block % number for number in range(1000))
    message = report("a@x.org").replace(b"--b--", many + b"--b--")
    assert len(read_bounces(message)) == RECIPIENTS


def test_only_the_beginning_of_a_message_is_read() -> None:
    behind = report("a@x.org").replace(b"\n\n--b\n", b"\n\n" + b"x" * REPORT_BYTES + b"\n--b\n", 1)
    assert read_bounces(report("a@x.org") + b"x" * REPORT_BYTES)
    assert read_bounces(behind) == []


def nested(depth: int) -> bytes:
    parts = [
        b'Content-Type: multipart/report; boundary="n%d"\n\n--n%d\nContent-Type: multipart/report; boundary="n%d"\n\n'
        % (number, number, number + 1)
        for number in range(depth)
    ]
    return b"".join(parts)


@pytest.mark.parametrize(
    "message",
    [
        nested(3000),
        b'Content-Type: multipart/report; boundary="b"\n\n' + b"--b\n" * 60_000,
        b"Content-Type: multipart/report; boundary=" + b"\n " * 100_000,
        b"Content-Type: multipart/report;" + b" boundary" * 30_000,
        report("a@x.org").replace(b"\n\nFinal", b"\n" * 200_000 + b"Final"),
        report("a@x.org").replace(b"Action", (b"X: " + b"y" * 100 + b"\n") * 2000 + b"Action"),
        report("a@x.org").replace(b"Status: ", b"Diagnostic-Code: " + b"x;" * 50_000 + b"\nStatus: 5.0.0 "),
        report("a@x.org").replace(b"a@x.org", b"<" * 100_000 + b"@" * 100_000),
        (b"\n" + b" " * 100) * 2500,
    ],
    ids=["nested", "parts", "folded", "parameters", "blank lines", "fields", "diagnostic", "address", "blanks"],
)
def test_a_hostile_message_is_read_in_no_time(message: bytes) -> None:
    began = perf_counter()
    read_bounces(message)
    assert perf_counter() - began < 1


@given(st.binary(max_size=2000))
@example(b"Content-Type: multipart/report; boundary=\xff\n\n--\xff\n")
@example(report("a@x.org").replace(b"rfc822", b"\0\xff"))
def test_no_message_makes_it_raise(noise: bytes) -> None:
    read_bounces(noise)
    read_bounces(b'Content-Type: multipart/report; boundary="b"\n\n--b\n' + noise)
    read_bounces(report("a@x.org").replace(b"a@x.org", noise))
    read_bounces(report("a@x.org").replace(b"5.1.1", noise))


# -- codes in words ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("5.1.1 <a@x.org>: nobody here", "5.1.1"),
        ("4.7.1: later", "4.7.1"),
        (" 5.2.2", "5.2.2"),
        ("5.1.1.", "5.1.1"),
        ("5.1.10 no mail here", "5.1.10"),
        ("2.1.5 fine", "2.1.5"),
        ("mx5.1.1 said no", None),
        ("192.0.2.1 said no", None),
        ("5.1.1.1", None),
        ("5.1", None),
        ("\u0665.\u0661.\u0661", None),
        ("", None),
    ],
)
def test_the_code_that_an_answer_begins_with(text: str, status: str | None) -> None:
    assert find_status(text) == status


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        (FailureKind.BOUNCED, "5.1.1", "no such mailbox"),
        (FailureKind.BOUNCED, "5.2.2", "mailbox full"),
        (FailureKind.BOUNCED, "4.4.7", "it could not be delivered in time"),
        (FailureKind.REFUSED, "5.7.23", "refused because SPF does not allow our mail server"),
        (FailureKind.REFUSED, "5.7.99", "refused by policy"),
        (FailureKind.GIVEN_UP, "4.2.2", "mailbox full, for now"),
        (FailureKind.GIVEN_UP, None, "the mail server did not accept it"),
        (FailureKind.BOUNCED, "5.0.0", "no reason was given"),
        (FailureKind.BOUNCED, "5.999.999", "no reason was given"),
    ],
)
def test_a_code_in_our_words(kind: FailureKind, status: str | None, words: str) -> None:
    assert reason_of(kind, status) == words


@pytest.mark.slow
@given(st.sampled_from(FailureKind), st.from_regex(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True))
def test_every_code_has_words(kind: FailureKind, status: str) -> None:
    assert find_status(status) == status
    assert reason_of(kind, status)

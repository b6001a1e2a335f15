"""What the doctor says of the mail server: at which step it fails, what to do there, and where delivery is decided."""

from __future__ import annotations

import pytest

from launchpad.errors import MailUnavailable
from launchpad.mail.base import Step
from launchpad.ops.doctor.mail import delivery, failed, remedy
from launchpad.settings import MailSettings

RELAY = MailSettings(host="relay.institute.edu", port=25, security="none", from_address="lab@institute.edu")
SES = MailSettings.model_validate(
    {
        "host": "email-smtp.eu-west-1.amazonaws.com",
        "username": "AKIA",
        "password": "a real one",
        "from_address": "lab@institute.edu",
    }
)


def refusal(step: str, reply: int | None = None) -> MailUnavailable:
    return MailUnavailable("The mail server did not accept the mail.", step=step, reply=reply)


@pytest.mark.parametrize(
    ("settings", "step", "reply", "text", "what_to_do"),
    [
        (RELAY, Step.CONNECT, None, "relay.institute.edu, port 25, cannot be reached", "connections to port 25"),
        (SES, Step.CONNECT, None, "port 587, cannot be reached", "whether a firewall"),
        (SES, Step.TLS, None, "could not be encrypted", "mail.ca_file"),
        (SES, Step.LOG_IN, 535, "the login of AKIA was refused; its response was 535", "not an access key"),
        (
            RELAY,
            Step.SENDER,
            550,
            "the sender lab@institute.edu was refused; its response was 550",
            "Ask the administrators of that mail server",
        ),
        (RELAY, Step.RECIPIENT, 450, "the recipient was refused; its response was 450", "try again"),
        (RELAY, Step.RECIPIENT, 550, "its response was 550", "Ask the administrators of that mail server"),
        (SES, Step.MESSAGE, 554, "the mail itself was refused", "sandbox"),
        (SES, Step.RECIPIENT, 554, "the recipient was refused", "sandbox"),
    ],
)
def test_each_step_has_its_words_and_its_remedy(
    settings: MailSettings, step: Step, reply: int | None, text: str, what_to_do: str
) -> None:
    error = refusal(step, reply)
    assert text in failed(settings, error)
    assert what_to_do in remedy(settings, error)
    assert "a real one" not in failed(settings, error) + remedy(settings, error)


def test_a_failure_without_steps_keeps_its_own_text() -> None:
    assert failed(RELAY, MailUnavailable("The outbox is full.")) == "The outbox is full."


def test_what_decides_whether_a_mail_arrives() -> None:
    own, amazon = delivery(RELAY, "you@institute.edu"), delivery(SES, "you@institute.edu")
    assert "SPF and DKIM of institute.edu must name relay.institute.edu" in own
    for words in ("three CNAME records for DKIM of institute.edu", "custom MAIL FROM", "verified addresses only"):
        assert words in amazon
        assert words not in own

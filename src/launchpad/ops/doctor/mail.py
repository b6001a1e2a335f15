"""The mail server: whether it takes our mail, and what to do at the step where it does not."""

from __future__ import annotations

from ...errors import MailUnavailable
from ...mail.base import Step
from ...services.mailing import MailQueue
from ...settings import MailSettings
from .findings import Finding, Level

SES = "amazonaws.com"
_NOT_VERIFIED = (
    "Amazon SES accepts mail from verified senders only and, while your account is in its sandbox, to verified "
    "recipients only: verify the sender's domain, and ask for production access."
)


async def server(subject: str, settings: MailSettings, queue: MailQueue) -> list[Finding]:
    """Connects and logs in, without sending."""
    if not settings.host:
        text = "No mail server is set: codes go to the outbox, and anybody who can read it can sign in as any user."
        return [Finding(Level.WARN, subject, text, "Configure [mail].")]
    try:
        await queue.check()
    except MailUnavailable as error:
        return [Finding(Level.BAD, subject, failed(settings, error), remedy(settings, error))]
    what = "connections and the login" if settings.username else "connections"
    return [Finding(Level.OK, subject, f"{settings.host} accepts {what}.")]


def failed(settings: MailSettings, error: MailUnavailable) -> str:
    """At which step, and with which of its numbers; not its words, which are a stranger's."""
    where = {
        Step.CONNECT: f"{settings.host}, port {settings.port}, cannot be reached",
        Step.TLS: "the connection could not be encrypted",
        Step.LOG_IN: f"the login of {settings.username or 'nobody'} was refused",
        Step.SENDER: f"the sender {settings.from_address} was refused",
        Step.RECIPIENT: "the recipient was refused",
        Step.MESSAGE: "the mail itself was refused, or the connection was interrupted",
    }
    said = [where[Step(error.step)]] if error.step else []
    said += [f"its response was {error.reply}"] if error.reply else []
    return f"{error.detail.rstrip('.')}{': ' if said else ''}{'; '.join(said)}."


def remedy(settings: MailSettings, error: MailUnavailable) -> str:
    """What to do about that step."""
    is_ses = SES in settings.host
    if error.reply and 400 <= error.reply < 500:
        return (
            "The failure is temporary: try again in a few minutes; if it persists, ask the administrators of that "
            "mail server."
        )
    if error.step == Step.CONNECT:
        ports = "; many providers block outgoing connections to port 25" if settings.port == 25 else ""
        return f"Check mail.host and mail.port, and whether a firewall blocks the connection{ports}."
    if error.step == Step.TLS:
        return (
            "Check mail.security (starttls: port 587; tls: port 465); the certificate must be for mail.host, and "
            "from an authority that this server trusts or that is in mail.ca_file."
        )
    if error.step == Step.LOG_IN:
        own = " For Amazon SES these are SMTP credentials of that region, not an access key." if is_ses else ""
        return f"Check mail.username and mail.password.{own}"
    if error.step in (Step.SENDER, Step.RECIPIENT, Step.MESSAGE):
        if is_ses:
            return _NOT_VERIFIED
        return (
            "Ask the administrators of that mail server which senders and recipients it accepts from this server and "
            "login."
        )
    return "Check the log of the portal."


def delivery(settings: MailSettings, to: str) -> str:
    """What to look for where a mail should arrive that the server has taken."""
    domain = settings.from_address.rpartition("@")[2]
    if SES in settings.host:
        return (
            f"{settings.host} accepted the mail to {to}. If it does not arrive, or arrives as spam: SES gives you "
            f"three CNAME records for DKIM of {domain}; add them to its DNS. SPF applies to {domain} only with a "
            "custom MAIL FROM domain below it, for which SES needs an MX and a TXT record. In its sandbox SES sends "
            f"to verified addresses only. Bounces go to {settings.from_address}, or to the address that is set in SES."
        )
    return (
        f"{settings.host} accepted the mail to {to}. If it does not arrive, or arrives as spam: SPF and DKIM of "
        f"{domain} must name {settings.host}; bounces go to {settings.from_address}."
    )

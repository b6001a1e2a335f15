"""The mail server: whether it takes our mail, and what to do at the step where it does not."""

from __future__ import annotations

from ...errors import MailUnavailable
from ...mail.base import Step
from ...settings import MailSettings
from ..mailing import MailQueue
from .findings import Finding, Level

SES = "amazonaws.com"
_NOT_VERIFIED = (
    "Amazon SES takes mail from verified senders only and, while your account is in its sandbox, to verified "
    "recipients only: verify the sender's domain, and ask for production access."
)


async def server(subject: str, settings: MailSettings, queue: MailQueue) -> list[Finding]:
    """Connects and logs in, without sending."""
    if not settings.host:
        text = "No mail server is set: codes go to the outbox, and whoever reads it can sign in as anybody."
        return [Finding(Level.WARN, subject, text, "Set [mail].")]
    try:
        await queue.check()
    except MailUnavailable as error:
        return [Finding(Level.BAD, subject, failed(settings, error), remedy(settings, error))]
    what = "connections and the log-in" if settings.username else "connections"
    return [Finding(Level.OK, subject, f"{settings.host} takes {what}.")]


def failed(settings: MailSettings, error: MailUnavailable) -> str:
    """At which step, and with which of its numbers; not its words, which are a stranger's."""
    where = {
        Step.CONNECT: f"{settings.host}, port {settings.port}, cannot be connected to",
        Step.TLS: "the connection could not be protected",
        Step.LOG_IN: f"the log-in of {settings.username or 'nobody'} was refused",
        Step.SENDER: f"the sender {settings.from_address} was refused",
        Step.RECIPIENT: "the recipient was refused",
        Step.MESSAGE: "the mail itself was refused, or the connection broke off",
    }
    said = [where[Step(error.step)]] if error.step else []
    said += [f"it answered {error.reply}"] if error.reply else []
    return f"{error.detail.rstrip('.')}{': ' if said else ''}{'; '.join(said)}."


def remedy(settings: MailSettings, error: MailUnavailable) -> str:
    """What to do about that step."""
    is_ses = SES in settings.host
    if error.reply and 400 <= error.reply < 500:
        return "Its answer is “later”: try again in some minutes; if it stays so, ask who runs that server."
    if error.step == Step.CONNECT:
        ports = "; many providers close port 25 on the way out" if settings.port == 25 else ""
        return f"See mail.host and mail.port, and whether a firewall lets this server out to there{ports}."
    if error.step == Step.TLS:
        return (
            "See mail.security (starttls: port 587; tls: port 465); the certificate has to be for mail.host, and from "
            "an authority that this server trusts, or that mail.ca_file names."
        )
    if error.step == Step.LOG_IN:
        own = " For Amazon SES these are SMTP credentials of that region, not an access key." if is_ses else ""
        return f"See mail.username and mail.password.{own}"
    if error.step in (Step.SENDER, Step.RECIPIENT, Step.MESSAGE):
        if is_ses:
            return _NOT_VERIFIED
        return "Ask who runs that server which senders, and which recipients, it takes from this server and log-in."
    return "See the log of the portal."


def delivery(settings: MailSettings, to: str) -> str:
    """What to look for where a mail should arrive that the server has taken."""
    domain = settings.from_address.rpartition("@")[2]
    if SES in settings.host:
        return (
            f"{settings.host} took the mail to {to}. If it does not arrive, or as spam: SES gives you three CNAME "
            f"records for DKIM of {domain}; put them into its DNS. SPF counts for {domain} only with a custom MAIL "
            "FROM domain below it, which SES asks an MX and a TXT record for. In its sandbox SES sends to verified "
            f"addresses only. Where a mail bounces, the report goes to {settings.from_address}, or where you tell SES."
        )
    return (
        f"{settings.host} took the mail to {to}. If it does not arrive, or as spam: SPF and DKIM of {domain} have to "
        f"name {settings.host}; where it bounces, the report goes to {settings.from_address}."
    )

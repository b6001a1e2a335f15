"""The tree of errors. Each has an HTTP status and a text a user may see; nothing else reaches a user.

Engine, SMTP and SQL texts never go into `detail`: they are logged where they are caught, and the user gets our words.
"""

from __future__ import annotations


class LaunchpadError(Exception):
    """The root.

    Args:
        detail: one or two sentences in the user's words: what is wrong and, where we know it, what to do.
        fields: for bad input, the offending fields and what is wrong with each.
        retry_after_seconds: when trying again can help, and not before.
    """

    status = 500
    code = "internal-error"
    title = "Something went wrong on our side"

    def __init__(
        self, detail: str, *, fields: dict[str, str] | None = None, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields or {}
        self.retry_after_seconds = retry_after_seconds


class SettingsError(LaunchpadError):
    """The settings cannot be used; `detail` names the file, the line and the key."""

    code = "settings"
    title = "The settings cannot be used"


class InvalidInput(LaunchpadError):
    status = 422
    code = "invalid-input"
    title = "That input cannot be used"


class BackupUnusable(LaunchpadError):
    """A file that is no backup of ours, is damaged, or cannot be decrypted with what was given."""

    status = 422
    code = "backup-unusable"
    title = "That backup cannot be used"


class NotSignedIn(LaunchpadError):
    status = 401
    code = "not-signed-in"
    title = "Please sign in"


class WrongCode(LaunchpadError):
    """A code that is wrong, expired, used up or used in another browser: the same answer for all of them."""

    status = 401
    code = "wrong-code"
    title = "That code does not work"


class Forbidden(LaunchpadError):
    status = 403
    code = "forbidden"
    title = "Not allowed"


class StalePage(Forbidden):
    """A form or a call of a page that was loaded under an earlier sign-in."""

    code = "stale-page"
    title = "This page is from an earlier sign-in"


class ConfirmAgain(Forbidden):
    """Administering needs a login whose user showed who they are a short while ago."""

    code = "confirm-again"
    title = "Confirm your identity"


class NotFound(LaunchpadError):
    status = 404
    code = "not-found"
    title = "Not found"


class Conflict(LaunchpadError):
    status = 409
    code = "conflict"
    title = "Not possible in the current state"


class ArchiveDamaged(LaunchpadError):
    """An archive of a home is not as it was made. Nothing was made of it, and nothing removed."""

    status = 409
    code = "archive-damaged"
    title = "The archive is damaged"


class QuotaExceeded(LaunchpadError):
    status = 409
    code = "quota-exceeded"
    title = "That is more than your quota allows"


class TooManyRequests(LaunchpadError):
    status = 429
    code = "too-many-requests"
    title = "Too many tries"


class TooManyStreams(TooManyRequests):
    """A login follows more instances at the same time than one may."""

    code = "too-many-streams"
    title = "Too many live pages"


class Unavailable(LaunchpadError):
    status = 503
    code = "unavailable"
    title = "Not available right now"


class AlreadyRunning(Unavailable):
    code = "already-running"
    title = "The quick start is already running"


class PortTaken(Unavailable):
    code = "port-taken"
    title = "A port is already in use"


class StoreUnavailable(Unavailable):
    """The database did not answer or could not be written to."""

    code = "store-unavailable"


class EngineUnavailable(Unavailable):
    """The container engine did not answer."""

    code = "engine-unavailable"


class EngineRefused(Unavailable):
    """The engine answered, and refused what was asked."""

    code = "engine-refused"


class EngineAnswer(EngineRefused):
    """The engine's refusal of one call, for who made the call to read.

    Args:
        engine_status: the status of its answer.
        message: its own words; they are for the log.
    """

    def __init__(self, engine_status: int, message: str) -> None:
        super().__init__("The container engine refused. Your administrator can find the reason in the log.")
        self.engine_status = engine_status
        self.message = message


class HelperUnavailable(EngineUnavailable):
    """The privileged helper, through which the engine is reached, did not answer."""

    code = "helper-unavailable"


class HelperRefused(EngineRefused):
    """The privileged helper was asked for what its settings do not allow: by a fault, or by who is not the portal."""

    code = "helper-refused"


class NetworkUnavailable(EngineRefused):
    """The instances' network cannot be made, for example since the engine's address pools are used up."""

    code = "network-unavailable"


class ImageMissing(Unavailable):
    code = "image-missing"


class GpuUnavailable(EngineRefused):
    """The engine cannot give an instance the GPU that its environment asks for."""

    code = "gpu-unavailable"


class HomeUnavailable(Unavailable):
    """The user's home cannot be made or must not be used as it is."""

    code = "home-unavailable"


class FilesUnavailable(Unavailable):
    """The files of a home cannot be reached or changed just now."""

    code = "files-unavailable"


class FilesBusy(TooManyRequests):
    """As many files are being worked with at the same time as one may, or as the server allows."""

    code = "files-busy"
    title = "Too many files at once"


class NoRoom(LaunchpadError):
    """The home's limit or its disk is used up."""

    status = 507
    code = "no-room"
    title = "No space left"


class TooLarge(LaunchpadError):
    status = 413
    code = "too-large"
    title = "That is too large"


class NoSuchRange(LaunchpadError):
    """The part of a file that Range asks for lies behind its end."""

    status = 416
    code = "no-such-range"
    title = "The file is shorter than that"


class Changed(LaunchpadError):
    """It is not what the request says it should be (If-Match, Upload-Offset)."""

    status = 412
    code = "changed"
    title = "It was changed meanwhile"


class ConnectionsNotCut(Unavailable):
    """Open connections to instances could not be closed, not all of them at least."""

    code = "connections-not-cut"


class MailUnavailable(Unavailable):
    """A mail could not be handed over.

    Args:
        permanent: trying again cannot help.
        step: how far it came, one of `mail.base.Step`; empty where there are none.
        reply: the number that the mail server answered with there, such as 535. Of its words nothing is kept.
        recipient_refused: the mail server works, and does not take mail to this recipient.
        mail_status: the enhanced status code (RFC 3463), where the server gave one.
    """

    code = "mail-unavailable"

    def __init__(
        self,
        detail: str,
        *,
        permanent: bool = False,
        step: str = "",
        reply: int | None = None,
        recipient_refused: bool = False,
        mail_status: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.permanent = permanent
        self.step = step
        self.reply = reply
        self.recipient_refused = recipient_refused
        self.mail_status = mail_status


class MailboxUnavailable(Unavailable):
    """The mailbox that reports of undelivered mail come to could not be read."""

    code = "mailbox-unavailable"


class StartFailed(Unavailable):
    """The container ran but never became usable."""

    code = "start-failed"


class ContainerEnded(StartFailed):
    """The container is not running any more although its start is under way; the engine knows how it ended."""

"""The settings of mail: how it leaves, and where reports of what did not arrive come to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import EmailStr, Field, model_validator

from .values import FolderName, Secret, Section


class BounceSettings(Section):
    """The mailbox of the sender, where bounces arrive. Without `host`, they are not read."""

    host: str = Field("", description="Name of the IMAP server; empty: bounces are not read.")
    port: int = Field(993, ge=1, le=65535, description="993 for TLS, 143 for STARTTLS.")
    security: Literal["tls", "starttls", "none"] = Field(
        "tls", description="How the connection is protected; `none` only on a trusted network."
    )
    username: str = Field("", description="User name at the IMAP server.")
    password: Secret | None = Field(None, description="Its password.")
    folder: FolderName = Field("INBOX", description="The mailbox folder that bounces arrive in.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.host and not (self.username and self.password):
            raise ValueError("host is set, but username or password is not")
        return self


class MailSettings(Section):
    """The mail server. Without `host`, mails go to the outbox: `<state_dir>/outbox/*.eml` and the terminal."""

    host: str = Field("", description="Name of the SMTP server; empty: no mail is sent, codes go to the outbox.")
    port: int = Field(587, ge=1, le=65535, description="587 for STARTTLS, 465 for implicit TLS, 25 for a relay.")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How the connection is protected; `none` only for a relay on a trusted network."
    )
    username: str = Field("", description="User name at the mail server, if it requires one.")
    password: Secret | None = Field(None, description="Its password. For Amazon SES: the SMTP password, not the key.")
    from_address: EmailStr = Field("launchpad@localhost.localdomain", description="Sender of every mail.")
    from_name: str = Field("Data-Science Launchpad", description="Display name of the sender.")
    timeout_seconds: float = Field(10, gt=0, le=120, description="Timeout for each step with the mail server.")
    ca_file: Path | None = Field(
        None, description="CA certificates to trust for mail server and mailbox, in addition to the system's."
    )
    bounces: BounceSettings = Field(default_factory=BounceSettings)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.username and self.password is None:
            raise ValueError("username is set, but password is not")
        return self

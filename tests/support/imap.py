"""A real IMAP server (Dovecot) on loopback, with a configuration, a user and a mailbox of its own."""

from __future__ import annotations

import imaplib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from .certificates import certificate
from .ports import free_ports

USERNAME, PASSWORD = "launchpad@example.org", "a real “one”"  # with signs that need care
CONFIGURATION = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols = imap
listen = 127.0.0.1
mail_location = maildir:{folder}/mail
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
first_valid_gid = 0
auth_mechanisms = {mechanisms}
disable_plaintext_auth = no
ssl = yes
ssl_cert = <{chain}
ssl_key = <{key}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/passwords
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/mail
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
  }}
}}
"""


class ImapServer:
    """`put` delivers a mail. `mechanisms` are what it takes for a log-in besides the command LOGIN."""

    def __init__(self, *, mechanisms: str = "plain") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="launchpad-imap-"))
        self.folder.chmod(0o755)  # Dovecot's processes have users of their own
        self.port, self.tls_port = free_ports(2)
        self.chain, key = certificate(self.folder, "localhost")
        owner = pwd.getpwnam("nobody")
        for name in ("", "new", "cur", "tmp"):
            place = self.folder / "mail" / name
            place.mkdir()
            os.chown(place, owner.pw_uid, owner.pw_gid)
        (self.folder / "passwords").write_text(f"{USERNAME}:{{PLAIN}}{PASSWORD}::::::\n", encoding="utf-8")
        (self.folder / "passwords").chmod(0o644)
        configuration = self.folder / "dovecot.conf"
        configuration.write_text(
            CONFIGURATION.format(
                folder=self.folder,
                port=self.port,
                tls_port=self.tls_port,
                chain=self.chain,
                key=key,
                mechanisms=mechanisms,
            ),
            encoding="utf-8",
        )
        self._number = 0
        self._process = subprocess.Popen(["dovecot", "-F", "-c", str(configuration)])
        self._wait_until_it_answers()

    def settings(self, security: str = "tls", **values: Any) -> dict[str, Any]:
        """The table `[mail.bounces]` that leads here."""
        port = self.tls_port if security == "tls" else self.port
        log_in = {"username": USERNAME, "password": PASSWORD}
        return {"host": "localhost", "port": port, "security": security, **log_in, **values}

    def put(self, content: bytes) -> None:
        """A mail arrives, behind those that are there."""
        self._number += 1
        place = self.folder / "mail" / "tmp" / f"{self._number:09}.test"
        place.write_bytes(content)
        owner = pwd.getpwnam("nobody")
        os.chown(place, owner.pw_uid, owner.pw_gid)
        place.rename(self.folder / "mail" / "new" / place.name)

    def unseen(self) -> list[bytes]:
        """Subjects of what nobody has read."""
        with self._client() as client:
            client.select("INBOX", readonly=True)
            numbers = client.search(None, "UNSEEN")[1][0].split()
            answers = [client.fetch(number, "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1][0] for number in numbers]
        return [answer[1].strip().removeprefix(b"Subject: ") for answer in answers if isinstance(answer, tuple)]

    def empty(self) -> None:
        """Everything is gone; its numbers are not used again."""
        with self._client() as client:
            there = client.select("INBOX")[1][0]
            if there != b"0":
                client.store("1:*", "+FLAGS", r"(\Deleted)")
                client.expunge()

    def renumber(self) -> None:
        """As after a restored backup: the mails are the same, and what their numbers mean is another."""
        numbers = self.folder / "mail" / "dovecot-uidlist"
        head, _, rest = numbers.read_text().partition("\n")
        (self.folder / "mail" / "dovecot-uidvalidity").unlink(missing_ok=True)
        for index in (self.folder / "mail").glob("dovecot.index*"):
            index.unlink()
        with numbers.open("w") as file:  # keeps its owner
            file.write(re.sub(r"V(\d+)", lambda found: f"V{int(found[1]) + 1}", head, count=1) + "\n" + rest)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self.folder)

    def _client(self) -> imaplib.IMAP4:
        client = imaplib.IMAP4("127.0.0.1", self.port, timeout=10)
        client.authenticate("PLAIN", lambda _: f"\0{USERNAME}\0{PASSWORD}".encode())
        return client

    def _wait_until_it_answers(self) -> None:
        deadline = monotonic() + 30
        while not self._answers():
            log = self.folder / "dovecot.log"
            said = log.read_text() if log.exists() else ""
            assert self._process.poll() is None, said
            assert monotonic() < deadline, said
            sleep(0.05)

    def _answers(self) -> bool:
        try:
            self._client().logout()
        except (OSError, imaplib.IMAP4.error):
            return False
        return True

"""Starts and ends the R session, which runs as the owner of the home; the server itself has given its rights back."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RSESSION = "/usr/lib/rstudio-server/bin/rsession"
FOLDER = Path("/run/rstudio-server/rstudio-rsession")
PATIENCE_SECONDS = 10.0  # with a session that starts, as RStudio's
# What a session takes over of the server's variables; all others come to R from Renviron.site.
TAKEN_OVER = ("LANG", "LC_", "TZ", "PATH", "SSL_", "CURL_", "XDG_", "RSTUDIO_CONFIG_HOME", "RSTUDIO_DATA_HOME")


@contextmanager
def as_root(server_uid: int) -> Iterator[None]:
    """For as long as it takes; needs the capability SETUID."""
    os.seteuid(0)
    try:
        yield
    finally:
        os.seteuid(server_uid)


class Launcher:
    """The session of the one user."""

    def __init__(self, user: str, server_user: str = "rstudio-server") -> None:
        self._user_name = user
        self._server = pwd.getpwnam(server_user)
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    @property
    def socket(self) -> str:
        return str(FOLDER / f"{self._user_name}-d")

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None and Path(self.socket).exists()

    def prepare(self) -> None:
        """As root: where the session listens, which only the server's group may enter."""
        if FOLDER.exists():  # the server is started again
            return
        FOLDER.mkdir(parents=True)
        os.chown(FOLDER, pwd.getpwnam(self._user_name).pw_uid, self._server.pw_gid)
        FOLDER.chmod(0o750)  # of another user by now: needs the capability FOWNER

    async def ensure(self) -> bool:
        """Starts the session if it does not run; False when it does not come up in time."""
        async with self._turn:
            if self.runs:
                return True
            if self._process is None or self._process.returncode is not None:
                await self._start()
            deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
            while not self.runs:
                if asyncio.get_running_loop().time() > deadline:
                    return False
                if self._process is None or self._process.returncode is not None:
                    await asyncio.sleep(0.5)  # it ended at once: once more, until the time is up
                    await self._start()
                await asyncio.sleep(0.02)
            return True

    async def _start(self) -> None:
        user = pwd.getpwnam(self._user_name)
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
        taken = {name: value for name, value in os.environ.items() if name.startswith(TAKEN_OVER)}

        def become() -> None:
            os.setgroups(groups)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)

        with as_root(self._server.pw_uid):
            Path(self.socket).unlink(missing_ok=True)
            self._process = await asyncio.create_subprocess_exec(
                RSESSION,
                preexec_fn=become,
                env={
                    **taken,
                    "HOME": user.pw_dir,
                    "USER": user.pw_name,
                    "LOGNAME": user.pw_name,
                    "SHELL": user.pw_shell,
                    "RSESSION_SOCKET": self.socket,
                },
                cwd="/",
            )

    async def end(self) -> None:
        """Tells the session to save and end, which needs the capability KILL, and waits for it, however long."""
        if self._process is None or self._process.returncode is not None:
            return
        try:
            with as_root(self._server.pw_uid):
                self._process.send_signal(signal.SIGTERM)
        except PermissionError:
            print("rserver: no capability KILL: the session cannot be told to save", flush=True)
            return
        await self._process.wait()

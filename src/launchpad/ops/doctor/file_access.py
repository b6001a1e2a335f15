"""Whether users can reach their files without an instance: a worker is started, and ended."""

from __future__ import annotations

from ...errors import FilesBusy, FilesUnavailable
from ...services.files import FilesService
from ...settings import Settings
from .findings import Finding, Level

FROM_SYSTEMD = (
    "Check “systemctl status launchpad-helper.socket launchpad-helper” and “journalctl -u launchpad-helper”. Where the "
    "socket is missing: “systemctl daemon-reload”, then “systemctl restart launchpad-helper.socket launchpad-helper”."
)


async def file_access(subject: str, settings: Settings, files: FilesService) -> list[Finding]:
    """One line; bad where the helper's socket for files, or what is behind it, does not answer."""
    path = settings.helper.files_socket
    try:
        await files.check()
    except FilesBusy:
        text = "As many uploads and downloads as files.workers allows are in progress."
        return [Finding(Level.OK, subject, text)]
    except FilesUnavailable:
        if path is None:
            text = "Users cannot reach their files without an instance: the processes for it do not start."
            return [Finding(Level.BAD, subject, text, "The lines above, or the portal's log, show why.")]
        text = f"Users cannot reach their files without an instance: the helper does not answer at {path}."
        return [Finding(Level.BAD, subject, text, FROM_SYSTEMD)]
    return [Finding(Level.OK, subject, "Users can reach their files without an instance.")]

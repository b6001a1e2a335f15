"""How a command asks the portal: one line of JSON to its control socket, and one line back.

Nothing but the standard library and our errors is loaded here: the timer's sweep is such a command, every minute.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import LaunchpadError, Unavailable

SOCKET_NAME = "control.sock"  # in the folder `run` of the state directory
CONNECT_SECONDS = 5.0
SILENT_SECONDS = 30.0  # the portal shows every 5 s that it is at it
PATH_BYTES = 100  # the kernel takes 107
_PEER = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
_NOT_ANSWERING = "The portal does not answer. Look at its log, and restart it if it hangs."
_CUT_SHORT = "The portal stopped before it answered, so it is not known whether this was done. Look, and try again."


def ask(state_dir: Path, verb: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The portal's answer, which `value_of` reads; None: no portal lives.

    Raises:
        LaunchpadError: it does not answer, or died over it, or what listens there is nobody's that may.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(CONNECT_SECONDS)
        try:
            with address_in(state_dir / "run") as address:
                line.connect(address)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return None
        except PermissionError:
            raise Unavailable("Run this as root: only root and the portal's own user may ask the portal.") from None
        except OSError as error:
            raise Unavailable(_NOT_ANSWERING) from error
        if peer_uid(line) not in (0, state_dir.stat().st_uid):
            raise Unavailable("What listens on the portal's control socket is not the portal.")
        line.settimeout(SILENT_SECONDS)
        try:
            line.sendall(json.dumps({"verb": verb, "arguments": arguments or {}}).encode() + b"\n")
            return _answer(line)
        except TimeoutError as error:
            raise Unavailable(_NOT_ANSWERING) from error
        except (OSError, ValueError) as error:
            raise Unavailable(_CUT_SHORT) from error


def value_of(answer: Mapping[str, Any]) -> Any:
    """The value, or the error as it was raised in the portal: text, title and fields.

    Raises:
        LaunchpadError: of the portal's.
    """
    if "error" not in answer:
        return answer["value"]
    error = LaunchpadError(str(answer["error"]), fields=dict(answer["fields"]))
    error.title = str(answer["title"])
    raise error


def error_body(error: LaunchpadError) -> dict[str, Any]:
    """How the portal says an error."""
    return {"error": error.detail, "title": error.title, "fields": error.fields}


@contextmanager
def address_in(folder: Path) -> Iterator[str]:
    """The socket's address, to be used inside: by a short way where its path is longer than an address may be.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder.
    """
    path = folder / SOCKET_NAME
    if len(os.fsencode(path)) <= PATH_BYTES:
        yield str(path)
        return
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end, as the kernel says."""
    return int(_PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[1])


def _answer(line: socket.socket) -> dict[str, Any]:
    """Raises ValueError for anything but an answer."""
    with line.makefile("rb") as lines:
        for text in lines:
            if text.strip():  # an empty line only shows that the portal is at it
                answer = json.loads(text)
                if not isinstance(answer, dict) or not {"value", "error"} & set(answer):
                    raise ValueError("not an answer")
                return answer
    raise ValueError("the connection ended")

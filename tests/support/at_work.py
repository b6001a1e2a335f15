"""What people do in JupyterLab and RStudio, without a page: kernels, consoles and terminals as pages speak to them."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin

from .live import Person
from .rstudio import RStudio

PATIENCE_SECONDS = 180


class AtWork:
    """One person in one instance; what is open stays open until `close`."""

    def __init__(self, person: Person, instance_id: str) -> None:
        self.person = person
        self.instance_id = instance_id
        self._sockets: list[ClientConnection] = []
        self._reading: list[asyncio.Task[None]] = []
        self._rstudio: RStudio | None = None
        self._is_open = False

    async def jupyter(self, path: str, **body: Any) -> Any:
        """What JupyterLab's server answers to a POST."""
        if not self._is_open:
            assert (await self.person.open(self.instance_id)).status_code == 200
            self._is_open = True
        url = self.person.instance_url(self.instance_id, path)
        origin = self.person.live.origin.of(self.instance_id)
        answer = await self.person.http.post(url, json=body, headers={"Origin": origin})
        assert answer.is_success, answer.text
        return answer.json()

    async def rstudio(self) -> RStudio:
        if self._rstudio is None:
            self._rstudio = await self.person.enter_rstudio(self.instance_id)
        return self._rstudio

    async def run_cell(self, code: str, *, kernel: str = "python3", wait: bool = False) -> None:
        """In a new kernel. Returns when the kernel has begun with it, or has done it (`wait`)."""
        made = await self.jupyter("/api/kernels", name=kernel)
        socket = await self._connected(
            self.person.instance_url(self.instance_id, f"/api/kernels/{made['id']}/channels")
        )
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": "execute_request",
            "username": "",
            "session": uuid.uuid4().hex,
        }
        header |= {"version": "5.3", "date": ""}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await socket.send(json.dumps({**message, "buffers": []}))
        wanted = "execute_reply" if wait else "execute_input"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                said = json.loads(await socket.recv())
                if said["msg_type"] == wanted and said["parent_header"].get("msg_id") == header["msg_id"]:
                    break
        await socket.close()
        self._sockets.remove(socket)

    async def run_in_jupyter_terminal(self, line: str, sign: str) -> None:
        """Types a line into a new terminal, which stays open, and waits until it shows a sign."""
        name = (await self.jupyter("/api/terminals"))["name"]
        socket = await self._connected(self.person.instance_url(self.instance_id, f"/terminals/websocket/{name}"))
        await self._run(socket, json.dumps(["stdin", f"{line}\r"]), sign)

    async def run_in_rstudio_terminal(self, line: str, sign: str) -> None:
        made = await (await self.rstudio()).call("start_terminal")
        path = f"/p/{made['channel_id']}/terminal/{made['handle']}/"
        await self._run(await self._connected(self.person.instance_url(self.instance_id, path)), f"{line}\n", sign)

    async def _run(self, socket: ClientConnection, message: str, sign: str) -> None:
        await socket.send(message)
        shown = ""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while sign not in shown:
                shown += str(await socket.recv())
        self._reading.append(asyncio.create_task(_read(socket)))

    async def _connected(self, url: str) -> ClientConnection:
        cookies = self.person.http.build_request("GET", url).headers.get("Cookie", "")
        origin = Origin(self.person.live.origin.of(self.instance_id))
        socket = await connect(
            url.replace("http", "ws", 1),
            origin=origin,
            additional_headers={"Cookie": cookies},
            proxy=None,
            open_timeout=PATIENCE_SECONDS,
        )
        self._sockets.append(socket)
        return socket

    async def close(self) -> None:
        for task in self._reading:
            task.cancel()
        for socket in self._sockets:
            await socket.close()


async def _read(socket: ClientConnection) -> None:
    """As a page does: what a terminal prints must go somewhere."""
    async for _ in socket:
        pass

"""RStudio Server as its page talks to it: log-in, client id, calls, events, local applications.

All of it is what the real server answers to, not only its stand-in; its sources are named in the stand-in's README.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

PATIENCE_SECONDS = 180.0
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"}
NO_CONNECTION, UNAVAILABLE, UNAUTHORIZED, INVALID_CLIENT = 1, 2, 3, 4  # numbers of errors

APPLICATION = Path(__file__).with_name("application.pl")


class RStudio:
    """One tab of a browser, whose cookies are those of `http`; the server is at `base_url`."""

    def __init__(self, http: httpx.AsyncClient, base_url: str, headers: dict[str, str] | None = None) -> None:
        self.http = http
        self.url = base_url.rstrip("/")
        self.headers = BROWSER | (headers or {})
        self.client_id = ""
        self.last = -1

    async def enter(self) -> dict[str, Any]:
        """Loads the page, over the log-in that lets everybody in, and takes the session; its `client_init`."""
        await self.http.get(f"{self.url}/", headers=self.headers, follow_redirects=True)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await self.post("ping")).json().get("error", {}).get("code") == NO_CONNECTION:
                pass  # R starts slowly on a busy machine; the page, too, tries again
        initial: dict[str, Any] = await self.call("client_init")
        self.client_id = initial["clientId"]
        return initial

    def cookie(self, name: str) -> str:
        """Of this server, where several have set one of this name: the one with the longest path."""
        path = httpx.URL(self.url).path or "/"
        found = [one for one in self.http.cookies.jar if one.name == name and path.startswith(one.path.rstrip("/"))]
        return str(max(found, key=lambda one: len(one.path)).value) if found else ""

    async def post(self, method: str, *params: object, **headers: str) -> httpx.Response:
        body = {"method": method, "params": list(params), "clientId": self.client_id, "clientVersion": ""}
        token = {"X-RS-CSRF-Token": self.cookie("rs-csrf-token")}
        return await self.http.post(
            f"{self.url}/rpc/{method}", json=body, headers=self.headers | token | headers, timeout=PATIENCE_SECONDS
        )

    async def call(self, method: str, *params: object, **headers: str) -> Any:
        """The result; an assertion where there is an error."""
        answer = await self.post(method, *params, **headers)
        assert answer.status_code == 200, f"{method}: {answer.status_code} {answer.text}"
        assert "error" not in answer.json(), f"{method}: {answer.text}"
        return answer.json().get("result")

    async def error(self, method: str, *params: object) -> int:
        """The number of the error that the call is answered with."""
        return int((await self.post(method, *params)).json()["error"]["code"])

    async def events(self) -> list[dict[str, Any]]:
        """What happened since they were asked for last; waits for something, but not for ever."""
        found: list[dict[str, Any]] = await self.call("get_events", self.last)
        self.last = max([self.last, *(int(one["id"]) for one in found)])
        return found

    async def run(self, code: str) -> str:
        """What R prints for this code."""
        await self.call("console_input", code, "", 0)
        text = ""
        typed = False  # what another session was told before may come first
        first = code.splitlines()[0]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for event in await self.events():
                    typed = typed or (event["type"] == "console_write_input" and first in event["data"]["text"])
                    if event["type"] in ("console_output", "console_error"):
                        text += str(event["data"]["text"]) if typed else ""
                    if event["type"] == "console_prompt" and typed:
                        return text

    async def start_application(self, port: int = 7411) -> str:
        """Runs a web application in the instance, see the file; the address below which it answers."""
        text = APPLICATION.read_text()
        await self.run(f'file <- file.path(tempdir(), "application.pl")\nwriteLines(r"---({text})---", file)')
        await self.run(f"system2('perl', c(file, {port}), wait = FALSE)")
        said = await self.run(f"cat('at', .rs.api.translateLocalUrl('http://127.0.0.1:{port}/', FALSE), 'now')")
        found = re.search(r"at (p/[0-9a-f]+/) now", said)
        assert found, said
        address = f"{self.url}/{found[1]}"
        deadline = monotonic() + PATIENCE_SECONDS
        while (answer := await self.http.get(address, headers=self.headers)).status_code != 200:
            assert monotonic() < deadline, f"{address}: {answer.status_code} {answer.text}"
            await asyncio.sleep(0.1)
        return address

    async def upload(self, name: str, content: bytes, **headers: str) -> None:
        """Into the home: the bytes first, and then the word that they are to stay."""
        answer = await self.http.post(
            f"{self.url}/upload",
            data={"targetDirectory": "~"},
            files={"file": (name, content)},
            headers=self.headers | headers,
            timeout=PATIENCE_SECONDS,
        )
        assert answer.status_code == 200, answer.text
        await self.call("complete_upload", answer.json()["result"]["token"], True)

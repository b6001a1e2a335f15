"""The tests' own browser: what other tests start and end beside it does not end what it is loading."""

from __future__ import annotations

import asyncio
import secrets
import subprocess

import pytest
from playwright.async_api import Browser, Error


async def test_a_network_interface_that_comes_and_goes_does_not_end_a_load(browser: Browser) -> None:
    """In the middle of a connection's making it ends with what its server does, and not before."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)  # the first byte of TLS
        asked.set()
        await go_on.wait()
        writer.close()

    name = f"lp{secrets.token_hex(4)}"
    context = await browser.new_context()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        page = await context.new_page()
        loading = asyncio.create_task(page.goto(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
        await asked.wait()
        for command in (f"link add {name} type bridge", f"addr add 192.0.2.1/32 dev {name}", f"link set {name} up"):
            subprocess.run(["ip", *command.split()], check=True)
        await asyncio.sleep(1)  # a browser that hears of it waits a while for more of it
        subprocess.run(["ip", "link", "del", name], check=True)
        await asyncio.sleep(1)
        go_on.set()
        with pytest.raises(Error, match="ERR_CONNECTION_CLOSED"):
            await loading
    await context.close()

"""List, download and upload through the Files API, against nginx serving and receiving the same files.

Both go through nginx on the same machine, in turn, in one run: quote the ratios. nginx lists with autoindex (JSON, all
names with size and time), sends with sendfile, and receives with its WebDAV module, which does not wait for the disk;
the API syncs before it says that a file is there.

    python benchmarks/files.py [--rounds 5] [--megabytes 100] [--entries 100000]

Needs root and nginx with its dav module, as Debian's has it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.live import LivePlatform, Person  # noqa: E402 - the path has to be set first
from support.ports import free_ports  # noqa: E402
from support.smtp import MailServer  # noqa: E402

PIECE = bytes(range(256)) * 4096  # a megabyte
MANY_SMALL = 200
NGINX = """
user root;
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    sendfile on;
    client_max_body_size 0;
    client_body_temp_path {home}/.nginx-temp;
    server {{
        listen 127.0.0.1:{port};
        root {home};
        autoindex on;
        autoindex_format json;
        default_type application/octet-stream;
        location / {{ dav_methods PUT; }}
    }}
}}
"""


@asynccontextmanager
async def bare_nginx(folder: Path, home: Path) -> AsyncIterator[str]:
    """Its address; it serves the home, and takes files into it."""
    port = free_ports(1)[0]
    config = folder / "bare.conf"
    config.write_text(NGINX.format(folder=folder, home=home, port=port))
    process = await asyncio.create_subprocess_exec("nginx", "-c", str(config), "-p", str(folder))
    try:
        async with httpx.AsyncClient() as http:
            for _ in range(200):
                try:
                    await http.get(f"http://127.0.0.1:{port}/")
                    break
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def timed(work: Callable[[], Awaitable[None]]) -> float:
    began = monotonic()
    await work()
    return monotonic() - began


async def compare(
    name: str, bare: Callable[[], Awaitable[None]], ours: Callable[[], Awaitable[None]], rounds: int
) -> None:
    """One of each does not count; then in turn."""
    bare_seconds, our_seconds = [], []
    for number in range(rounds + 1):
        one, other = await timed(bare), await timed(ours)
        if number:
            bare_seconds.append(one)
            our_seconds.append(other)
    first, second = statistics.median(bare_seconds), statistics.median(our_seconds)
    ratio = statistics.median(our / one for our, one in zip(our_seconds, bare_seconds, strict=True))
    print(f"{name:<42} {first * 1000:>10.0f} {second * 1000:>10.0f} {ratio:>8.2f}", flush=True)


async def receive(http: httpx.AsyncClient, url: str, length: int) -> None:
    got = 0
    async with http.stream("GET", url) as answer:
        assert answer.status_code == 200, url
        async for piece in answer.aiter_raw():
            got += len(piece)
    assert got == length, url


async def put(http: httpx.AsyncClient, url: str, length: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, length, len(PIECE)):
            yield PIECE[: length - at]

    answer = await http.put(url, content=pieces(), headers={"Content-Length": str(length)})
    assert answer.status_code in (200, 201, 204), answer.text


async def measure(person: Person, bare: str, home: Path, given: argparse.Namespace) -> None:
    http, api, large = person.http, "/api/v1/home", given.megabytes * len(PIECE)
    uid = home.stat().st_uid
    for folder in ("many", "small"):
        (home / folder).mkdir()
    at = os.open(home / "many", os.O_RDONLY)
    for number in range(given.entries):
        os.mknod(f"file-{number:06}", 0o100644, dir_fd=at)
    os.close(at)
    for number in range(MANY_SMALL):
        (home / "small" / str(number)).write_bytes(PIECE[:4096])
    with (home / "large").open("wb") as file:
        for _ in range(given.megabytes):
            file.write(PIECE)
    subprocess.run(["chown", "-R", f"{uid}:{uid}", str(home)], check=True)
    async with httpx.AsyncClient(timeout=120) as plain:

        async def page() -> None:
            answer = await http.get(f"{api}/entries", params={"path": "many", "limit": 200})
            assert answer.json()["total"] == given.entries

        async def first_page() -> None:
            (home / "many" / "file-000000").touch()
            os.utime(home / "many")  # so that it is sorted anew
            await page()

        async def small(client: httpx.AsyncClient, url: str) -> None:
            for number in range(MANY_SMALL):
                await receive(client, f"{url}small/{number}", 4096)

        print(f"{'median milliseconds':<42} {'nginx':>10} {'ours':>10} {'ratio':>8}")
        everything = f"list {given.entries} files (a page of 200"
        await compare(f"{everything}, sorted anew)", lambda: _get(plain, f"{bare}/many/"), first_page, given.rounds)
        await compare(f"{everything}, next)", lambda: _get(plain, f"{bare}/many/"), page, given.rounds)
        await compare(
            f"download {given.megabytes} MB",
            lambda: receive(plain, f"{bare}/large", large),
            lambda: receive(http, f"{api}/files?path=large", large),
            given.rounds,
        )
        await compare(
            f"download {MANY_SMALL} files of 4 kB",
            lambda: small(plain, f"{bare}/"),
            lambda: small(http, f"{api}/files?path="),
            given.rounds,
        )
        await compare(
            f"upload {given.megabytes} MB",
            lambda: put(plain, f"{bare}/up-bare", large),
            lambda: put(http, f"{api}/files?path=up-ours", large),
            given.rounds,
        )


async def _get(http: httpx.AsyncClient, url: str) -> None:
    assert (await http.get(url)).status_code == 200


async def main(given: argparse.Namespace) -> None:
    mail = MailServer()
    mail.start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        live = LivePlatform(folder, mail, {"engine": {"runtime": "fake"}})
        try:
            await live.start()
            async with live.person("anna@example.org") as person:
                person.http.timeout = httpx.Timeout(120)
                await person.http.get("/api/v1/home/entries")  # makes the home
                home = live.homes / person.me["username"]
                async with bare_nginx(folder, home) as bare:
                    await measure(person, bare, home, given)
        finally:
            await live.stop()
    mail.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--entries", type=int, default=100_000)
    asyncio.run(main(parser.parse_args()))

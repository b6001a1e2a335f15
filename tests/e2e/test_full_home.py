"""A full home locks nobody out: every environment starts, says that it is full, and lets its owner tidy up."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
import websockets
from websockets.typing import Origin

from support.btrfs import btrfs_in_a_file, run
from support.live import LivePlatform, Person, StartPlatform

PATIENCE_SECONDS = 120.0
DISK_MIB = 64

# As the owner: to root, what the file system keeps in reserve would be room.
FILL = """
import os, sys
for number in range(50):
    try:
        with open(f"{sys.argv[1]}/filler{number}", "wb", buffering=0) as file:
            for size in (1 << 20, 4096, 512, 1):
                try:
                    while True:
                        file.write(os.urandom(size))
                        os.fsync(file.fileno())
                except OSError:
                    pass
    except OSError:
        pass
"""


@contextmanager
def ext4_in_a_file() -> Iterator[Path]:
    """As most servers have it: with a reserve for root."""
    with tempfile.TemporaryDirectory(prefix="launchpad-test-ext4-") as folder:
        Path(folder).chmod(0o755)
        image, place = Path(folder, "image"), Path(folder, "mounted")
        with image.open("wb") as file:
            file.truncate(DISK_MIB * 1024**2)
        run("mkfs.ext4", "-q", "-m", "5", image)
        place.mkdir()
        run("mount", "-o", "loop", image, place)
        try:
            yield place
        finally:
            run("umount", "--lazy", place)


@pytest.fixture(scope="module", params=["plain", "btrfs"])
def disk(request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    with ext4_in_a_file() if request.param == "plain" else btrfs_in_a_file(400) as place:
        yield request.param, place


def fill(home: Path) -> None:
    uid = home.stat().st_uid
    run_as = {"user": uid, "group": uid, "extra_groups": []}
    subprocess.run(["python3", "-c", FILL, home], check=True, cwd="/", **run_as)  # type: ignore[call-overload]
    os.sync()
    refused = subprocess.run(
        ["dd", "if=/dev/zero", f"of={home}/more", "bs=64k", "count=4"], capture_output=True, **run_as
    )  # type: ignore[call-overload]
    assert refused.returncode != 0, "it is full"


async def reason_is(person: Person, instance_id: str, wanted: str | None) -> str | None:
    """The reason, as soon as it holds this; None: as soon as there is none."""
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        reason: str | None = (await person.get(instance_id))["reason"]
        if (wanted in (reason or "")) if wanted else not reason:
            return reason
        assert monotonic() < deadline, reason
        await asyncio.sleep(0.2)


async def runs_in_jupyter(person: Person, instance_id: str, code: str) -> str:
    """What a new Python kernel prints, over the gate."""
    http, origin = person.http, person.live.origin.of(instance_id)
    headers = {"Origin": origin}
    made = await http.post(
        person.instance_url(instance_id, "/api/kernels"), json={"name": "python3"}, headers=headers, timeout=60
    )
    assert made.status_code == 201, made.text
    url = person.instance_url(instance_id, f"/api/kernels/{made.json()['id']}/channels")
    cookies = "; ".join(f"{one.name}={one.value}" for one in http.cookies.jar if instance_id in one.path)
    text = ""
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        websockets.connect(
            url.replace("http", "ws", 1),
            additional_headers={"Cookie": cookies},
            origin=Origin(origin),
            proxy=None,
            open_timeout=PATIENCE_SECONDS,
        ) as channel,
    ):
        asked = uuid.uuid4().hex
        message = {
            "header": {"msg_id": asked, "msg_type": "execute_request", "session": "s", "version": "5.3"},
            "parent_header": {},
            "metadata": {},
            "channel": "shell",
            "content": {"code": code, "silent": False, "store_history": True, "stop_on_error": True},
        }
        await channel.send(json.dumps(message))
        missing = {"reply", "output"}  # they come on two ways, and none waits for the other
        while missing:
            got = json.loads(await channel.recv())
            if got["parent_header"].get("msg_id") != asked:
                continue
            text += got["content"]["text"] if got["msg_type"] == "stream" else ""
            assert got["msg_type"] != "error", got["content"]
            if got["msg_type"] == "execute_reply":
                missing.discard("reply")
            if got["content"].get("execution_state") == "idle":
                missing.discard("output")
    return text


async def works(person: Person, environment: str, instance_id: str) -> None:
    """Code runs, and what was too much can be removed from inside."""
    if environment == "rstudio":
        rstudio = await person.enter_rstudio(instance_id)
        assert "[1] 42" in await rstudio.run("6 * 7")
        assert "removed" in await rstudio.run(
            "if (all(file.remove(Sys.glob('~/filler*')))) cat('re', 'moved', sep = '')"
        )
        return
    await person.open(instance_id)
    listed = await person.http.get(person.instance_url(instance_id, "/api/contents"))
    assert any(one["name"] == "filler0" for one in listed.json()["content"])
    assert "42" in await runs_in_jupyter(person, instance_id, "print(6 * 7)")
    tidy = "import glob, os; [os.remove(name) for name in glob.glob('filler*')]; print('re' + 'moved')"
    assert "removed" in await runs_in_jupyter(person, instance_id, tidy)


@pytest.mark.parametrize("environment", ["jupyterlab", "rstudio"])
@pytest.mark.parametrize("when", ["at the first launch", "after work"])
async def test_f4_a_full_home_starts_says_so_and_can_be_tidied_up(
    start_platform: StartPlatform, disk: tuple[str, Path], environment: str, when: str
) -> None:
    """On a disk without limits, and at one's own limit; before the application has made a folder, and after."""
    driver, place = disk
    root = place / uuid.uuid4().hex[:8]
    root.mkdir()
    limits = {"storage": ["48m"], "default_storage": "48m"} if driver == "btrfs" else {}
    live: LivePlatform = await start_platform(
        {"homes": {"root": str(root), "driver": driver}, **({"limits": limits} if limits else {})}
    )
    async with live.person("fay@example.org") as fay:
        home = root / "fay"
        first = await fay.launch_and_wait(environment)
        if when == "after work" and environment == "rstudio":
            await (await fay.enter_rstudio(first["id"])).run("x <- 1")
        elif when == "after work":
            await fay.open(first["id"])
            await runs_in_jupyter(fay, first["id"], "x = 1")
        await fay.stop(first["id"])
        if when == "at the first launch":
            for path in sorted(home.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        fill(home)

        instance = await fay.launch_and_wait(environment)
        assert "your home folder is full" in str(await reason_is(fay, instance["id"], "home folder is full"))
        page = await fay.http.get("/dashboard", headers={"Accept": "text/html"})
        assert "our home folder is full" in page.text
        await works(fay, environment, instance["id"])
        os.sync()
        await reason_is(fay, instance["id"], None)
        await fay.stop(instance["id"])
    for path in root.iterdir():
        subprocess.run(["rm", "-rf", path], check=True)

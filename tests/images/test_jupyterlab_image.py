"""The JupyterLab that is built looks like jupyter/docker-stacks from outside."""

from __future__ import annotations

import asyncio
import json
import uuid

import httpx
import pytest
import websockets

from images.conftest import UID, Start, Started


async def run_code(started: Started, kernel: str, code: str) -> str:
    """What a kernel prints for this code, over its WebSocket."""
    headers = {"Authorization": "token t"}
    async with httpx.AsyncClient(base_url=f"{started.url}/i/abc", headers=headers, timeout=120) as http:
        made = (await http.post("/api/kernels", json={"name": kernel})).json()
    url = f"{started.url.replace('http', 'ws')}/i/abc/api/kernels/{made['id']}/channels?token=t"
    text = ""
    async with websockets.connect(url, open_timeout=120) as channel, asyncio.timeout(120):
        message = {
            "header": {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": "s", "version": "5.3"},
            "parent_header": {},
            "metadata": {},
            "channel": "shell",
            "content": {"code": code, "silent": False, "store_history": False, "stop_on_error": True},
        }
        await channel.send(json.dumps(message))
        while True:
            got = json.loads(await channel.recv())
            if got["msg_type"] == "stream":
                text += got["content"]["text"]
            if got["msg_type"] == "error":
                raise AssertionError(got["content"]["evalue"])
            if got["msg_type"] == "execute_reply":
                await asyncio.sleep(0.2)
                return text


@pytest.fixture
async def jupyterlab(start_jupyterlab: Start) -> Started:
    started = await asyncio.to_thread(start_jupyterlab)
    await asyncio.to_thread(started.wait_for, "/i/abc/api")
    return started


async def test_any_uid_has_a_name_and_no_capability(jupyterlab: Started) -> None:
    assert jupyterlab.exec("whoami") == "zed"
    assert jupyterlab.exec("id", "-u") == str(UID)
    assert "CapEff:\t0000000000000000" in jupyterlab.exec("cat", "/proc/self/status")


async def test_its_token_is_wanted(jupyterlab: Started) -> None:
    async with httpx.AsyncClient(base_url=f"{jupyterlab.url}/i/abc", timeout=60) as http:
        assert (await http.get("/api/contents")).status_code == 403
        assert (await http.get("/api/contents", headers={"Authorization": "token t"})).status_code == 200


async def test_python_and_r_run_and_write_as_the_user(jupyterlab: Started) -> None:
    python = "import numpy, pandas, matplotlib; open('p.txt', 'w').write('p'); print('py', 6 * 7)"
    assert "py 42" in await run_code(jupyterlab, "python3", python)
    assert "r 42" in await run_code(jupyterlab, "ir", "writeLines('r', 'r.txt'); cat('r', 6 * 7)")
    assert {(jupyterlab.home / name).stat().st_uid for name in ("p.txt", "r.txt")} == {UID}


async def test_what_users_install_lands_in_their_home_and_comes_first(jupyterlab: Started) -> None:
    package = jupyterlab.home / "numpy-of-mine"
    await asyncio.to_thread(package.mkdir)
    (package / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1"\n'
        '[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n'
    )
    # A wheel by hand, so that nothing has to be fetched.
    (package / "b.py").write_text(
        "import zipfile, pathlib\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    with zipfile.ZipFile(pathlib.Path(folder) / 'mine-1-py3-none-any.whl', 'w') as wheel:\n"
        "        wheel.writestr('mine.py', 'WHERE = __file__')\n"
        "        wheel.writestr('mine-1.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: mine\\nVersion: 1\\n')\n"
        "        tags = 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'\n"
        "        wheel.writestr('mine-1.dist-info/WHEEL', tags)\n"
        "        wheel.writestr('mine-1.dist-info/RECORD', '')\n"
        "    return 'mine-1-py3-none-any.whl'\n"
    )
    jupyterlab.exec("pip", "install", "--quiet", "--no-index", "/home/jovyan/numpy-of-mine")
    assert "/home/jovyan/.local/" in await run_code(jupyterlab, "python3", "import mine; print(mine.WHERE)")
    library = await run_code(jupyterlab, "ir", "cat(.libPaths()[1])")
    assert library.startswith("/home/jovyan/R/")

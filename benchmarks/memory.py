"""How much memory the quick start's processes hold, and what a sweep costs, beside JupyterHub in the same run.

Ours: the process of `./quickstart` that stays, the portal (after 200 page loads with one instance: on `fake`, and in
Docker), nginx. The peer: JupyterHub 6.1 with configurable-http-proxy, idle and after as many loads of its log-in page.
Numbers are resident megabytes (RSS) of each process, and seconds of processor time.

    python benchmarks/memory.py [--without-docker] [--without-peer] [--loads 200] [--cache FOLDER]

Needs root, nginx, for Docker the images (`launchpad images build`), for the peer pip and npm: both are asked once, for
a folder outside the repository.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.ports import free_ports  # noqa: E402 - the path has to be set first

PATIENCE_SECONDS = 120
SWEEPS = 10
PEER = ("jupyterhub==6.1.*", "configurable-http-proxy@5")
ADDRESS = "admin@example.org"
Row = tuple[str, str]


def resident_megabytes(pid: int) -> float:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def children(pid: int) -> dict[int, str]:
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return {int(one): Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode() for one in listed.split()}


def clean() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LAUNCHPAD_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # a server's programs are compiled once
    return kept


@asynccontextmanager
async def running(
    command: list[str], variables: Mapping[str, str], log: Path, ready: str, cwd: Path
) -> AsyncIterator[int]:
    """A program, once `ready` answers 200; its process id."""
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(*command, env=variables, stdout=file, stderr=file, cwd=cwd)
    try:
        deadline = monotonic() + PATIENCE_SECONDS
        async with httpx.AsyncClient(follow_redirects=True) as http:
            while True:
                assert process.returncode is None, log.read_text()[-3000:]
                assert monotonic() < deadline, log.read_text()[-3000:]
                try:
                    if (await http.get(ready)).status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.1)
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def ours(engine: str, loads: int, folder: Path) -> list[Row]:
    ports = free_ports(2)
    url = f"http://localhost:{ports[0]}"
    state = folder / "state"
    (folder / "homes").mkdir(parents=True)
    variables = {
        **clean(),
        "LAUNCHPAD_PUBLIC_URL": url,
        "LAUNCHPAD_INSTANCES_URL": f"http://localhost:{ports[1]}",
        "LAUNCHPAD_STATE_DIR": str(state),
        "LAUNCHPAD_HOMES__ROOT": str(folder / "homes"),
        "LAUNCHPAD_HOMES__DRIVER": "plain",
        "LAUNCHPAD_ENGINE__RUNTIME": engine,
        "LAUNCHPAD_ENGINE__NETWORK": f"launchpad-benchmark-{ports[0]}",
        "LAUNCHPAD_ADMIN_EMAILS": f'["{ADDRESS}"]',
    }
    log = folder / "log"
    quickstart = [sys.executable, "-m", "launchpad", "quickstart"]
    rows: list[Row] = []
    async with running(quickstart, variables, log, f"{url}/readyz", ROOT) as pid:
        await load_pages(url, state / "outbox", loads)
        names = {each: command for each, command in children(pid).items() if "serve" in command or "nginx" in command}
        (portal,) = [each for each, command in names.items() if "serve" in command]
        masters = [each for each in names if each != portal]
        nginx = sum(resident_megabytes(each) for master in masters for each in (master, *children(master)))
        rows.append((f"quick start's own process ({engine})", f"{resident_megabytes(pid):.0f} MB"))
        rows.append((f"portal ({engine}), one instance, {loads} pages", f"{resident_megabytes(portal):.0f} MB"))
        rows.append((f"nginx and its workers ({engine})", f"{nginx:.0f} MB"))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(SWEEPS):
            subprocess.run([sys.executable, "-m", "launchpad", "sweep"], env=variables, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / SWEEPS
        rows.append((f"launchpad sweep, nothing to do ({engine})", f"{seconds:.3f} s of processor time"))
    if engine == "engine":
        network = variables["LAUNCHPAD_ENGINE__NETWORK"]
        subprocess.run(["docker", "network", "rm", network], check=False, capture_output=True)
    return rows


async def load_pages(url: str, outbox: Path, loads: int) -> None:
    """Signs in, launches an instance, and looks at the dashboard."""
    async with httpx.AsyncClient(base_url=url, timeout=60, headers={"Origin": url}) as http:
        (await http.post("/api/v1/sign-in", json={"email": ADDRESS})).raise_for_status()
        deadline = monotonic() + PATIENCE_SECONDS
        while not (letters := sorted(outbox.glob("*.eml"))):
            assert monotonic() < deadline, "no code came"
            await asyncio.sleep(0.05)
        code = re.search(r"\b(\d{6})\b", letters[-1].read_text().partition("\n\n")[2])
        assert code is not None
        (await http.post("/api/v1/sign-in/verify", json={"code": code[1]})).raise_for_status()
        token = (await http.get("/api/v1/me")).json()["csrf_token"]
        made = await http.post("/api/v1/instances", json={"environment": "jupyterlab"}, headers={"X-CSRF-Token": token})
        made.raise_for_status()
        while (await http.get(f"/api/v1/instances/{made.json()['id']}")).json()["state"] != "running":
            assert monotonic() < deadline, "the instance does not run"
            await asyncio.sleep(0.2)
        for _ in range(loads):
            (await http.get("/dashboard")).raise_for_status()


async def the_peer(cache: Path, loads: int, folder: Path) -> list[Row]:
    hub, proxy = PEER
    python, node = cache / "hub", cache / "proxy"
    if not (python / "bin" / "jupyterhub").exists():
        subprocess.run([sys.executable, "-m", "venv", str(python)], check=True)
        subprocess.run([str(python / "bin" / "pip"), "install", "--quiet", hub], check=True)
    if not (node / "node_modules").exists():
        subprocess.run(["npm", "install", "--silent", "--no-fund", "--prefix", str(node), proxy], check=True)
    public, api, own = free_ports(3)
    config = folder / "jupyterhub_config.py"
    config.write_text(
        f"c.JupyterHub.bind_url = 'http://127.0.0.1:{public}'\n"
        f"c.ConfigurableHTTPProxy.api_url = 'http://127.0.0.1:{api}'\n"
        f"c.JupyterHub.hub_bind_url = 'http://127.0.0.1:{own}'\n"
        "c.JupyterHub.authenticator_class = 'dummy'\n"
        "c.Authenticator.allow_all = True\n"
    )
    path = f"{python / 'bin'}:{node / 'node_modules' / '.bin'}:{os.environ['PATH']}"
    url = f"http://127.0.0.1:{public}/hub/login"
    command = [str(python / "bin" / "jupyterhub"), "-f", str(config)]
    async with running(command, {**clean(), "PATH": path}, folder / "log", url, folder) as pid:
        async with httpx.AsyncClient() as http:
            for _ in range(loads):
                (await http.get(url)).raise_for_status()
        (beside,) = [each for each, words in children(pid).items() if "configurable-http-proxy" in words]
        return [
            (f"JupyterHub, {loads} pages", f"{resident_megabytes(pid):.0f} MB"),
            ("configurable-http-proxy", f"{resident_megabytes(beside):.0f} MB"),
        ]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-docker", action="store_true", help="only the engine that starts nothing")
    parser.add_argument("--without-peer", action="store_true", help="without JupyterHub")
    parser.add_argument("--loads", type=int, default=200, help="pages before memory is read (default: 200)")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache" / "launchpad-benchmarks", help="where the peer is kept"
    )
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="launchpad-memory-") as name:
        for engine in ("fake",) if options.without_docker else ("fake", "engine"):
            rows += await ours(engine, options.loads, Path(name) / engine)
        if not options.without_peer:
            (Path(name) / "peer").mkdir()
            rows += await the_peer(options.cache, options.loads, Path(name) / "peer")
    for what, value in rows:
        print(f"{what:<55}{value:>30}")


if __name__ == "__main__":
    asyncio.run(main())

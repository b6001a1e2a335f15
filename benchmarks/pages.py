"""How fast pages are: requests a second and p99, through nginx as the quick start renders it, in one run for

- the landing page, which is what the web framework itself can do here;
- the dashboard with nothing running and with one instance running, `/api/v1/me`, `/api/v1/instances`;
- the administrators' pages;
- JupyterHub with its own proxy and the dummy authenticator: its home page, signed in, and its API about the user.

Everything in turn, round after round, since machines are noisy: quote the ratios. The load comes from wrk.

    python benchmarks/pages.py [--rounds 3] [--seconds 3] [--connections 8] [--docker] [--no-hub]

Needs root, nginx and wrk; for JupyterHub node and npm. With `--docker` the running instance is a container, which needs
the image of JupyterLab (`launchpad images build`); else the engine is the fake one. JupyterHub is installed
into a folder of its own (`--cache`) at the first run.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.echo_environment import echo_environment  # noqa: E402 - the path has to be set first
from support.live import LivePlatform, Person  # noqa: E402
from support.ports import free_ports  # noqa: E402
from support.smtp import MailServer  # noqa: E402

HUB = "jupyterhub==6.1.*"
PROXY = "configurable-http-proxy@5"
CACHE = Path.home() / ".cache" / "launchpad-benchmarks"
BROWSER = {
    "Accept": "text/html,application/xhtml+xml",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
}
HUB_SETTINGS = """
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.bind_url = "http://127.0.0.1:{public}"
c.JupyterHub.hub_port = {hub}
c.JupyterHub.spawner_class = "simple"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.ConfigurableHTTPProxy.command = ["{proxy}"]
c.JupyterHub.log_level = "WARN"
"""
TARGETS = (
    ("dashboard running / landing", "dashboard, one running", "landing", 0.5),
    ("dashboard running / JupyterHub's home", "dashboard, one running", "JupyterHub home", 4.0),
    ("dashboard idle / JupyterHub's home", "dashboard, nothing running", "JupyterHub home", None),
    ("me / landing", "/api/v1/me", "landing", 0.6),
    ("instances / landing", "/api/v1/instances", "landing", 0.6),
    ("me / JupyterHub's user", "/api/v1/me", "JupyterHub user", None),
)


@dataclass
class Page:
    """One address with what a browser sends along, and what was measured of it so far."""

    url: str
    cookies: str
    rates: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def _cookies(http: httpx.AsyncClient) -> str:
    return "; ".join(f"{one.name}={one.value}" for one in http.cookies.jar)


def _tables(with_docker: bool) -> dict[str, Any]:
    if with_docker:
        return {"environments": [echo_environment()]}
    return {"engine": {"runtime": "fake"}}


async def _ours(stack: AsyncExitStack, mail: MailServer, folder: Path, with_docker: bool) -> dict[str, Page]:
    live = LivePlatform(folder, mail, _tables(with_docker))
    stack.push_async_callback(live.stop)
    await live.start()

    async def person(address: str) -> Person:
        return await stack.enter_async_context(live.person(address))

    idle, busy, admin = [await person(f"{name}@example.org") for name in ("idle", "busy", "admin")]
    await busy.launch_and_wait("echo" if with_docker else "jupyterlab")
    for _ in range(20):  # until its use is known and shown
        text = (await busy.http.get("/dashboard", headers=BROWSER)).text
        if 'aria-label="Memory"' in text:
            break
        await asyncio.sleep(0.5)
    else:
        raise SystemExit("the dashboard does not show what the running instance uses")
    at = live.public_url
    return {
        "landing": Page(f"{at}/", ""),
        "dashboard, nothing running": Page(f"{at}/dashboard", _cookies(idle.http)),
        "dashboard, one running": Page(f"{at}/dashboard", _cookies(busy.http)),
        "/api/v1/me": Page(f"{at}/api/v1/me", _cookies(busy.http)),
        "/api/v1/instances": Page(f"{at}/api/v1/instances", _cookies(busy.http)),
        "admin overview": Page(f"{at}/admin", _cookies(admin.http)),
        "admin users": Page(f"{at}/admin/users", _cookies(admin.http)),
        "admin instances": Page(f"{at}/admin/instances", _cookies(admin.http)),
    }


async def _process(stack: AsyncExitStack, *command: str, folder: Path, env: Mapping[str, str] | None = None) -> None:
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=env, stdout=log, stderr=log)

    async def end() -> None:
        if process.returncode is None:
            process.terminate()
            await process.wait()

    stack.push_async_callback(end)


def install_hub(cache: Path) -> tuple[Path, Path]:
    """JupyterHub's and its proxy's programs, installed where they are not yet."""
    hub, proxy = (
        cache / "hub" / "bin" / "jupyterhub",
        cache / "chp" / "node_modules" / ".bin" / "configurable-http-proxy",
    )
    if not hub.exists():
        print("installing JupyterHub …", flush=True)
        venv.create(cache / "hub", with_pip=True)
        subprocess.run([str(cache / "hub" / "bin" / "pip"), "install", "--quiet", HUB], check=True)
    if not proxy.exists():
        (cache / "chp").mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", PROXY]
        subprocess.run(command, cwd=cache / "chp", check=True)
    return hub, proxy


async def _hub(stack: AsyncExitStack, cache: Path, folder: Path) -> dict[str, Page]:
    """JupyterHub with somebody signed in, nothing running."""
    hub, proxy = await asyncio.to_thread(install_hub, cache)
    folder.mkdir()
    public, api, inner = free_ports(3)
    settings = HUB_SETTINGS.format(public=public, api=api, hub=inner, proxy=proxy)
    (folder / "jupyterhub_config.py").write_text(settings)
    await _process(stack, str(hub), "--config", "jupyterhub_config.py", folder=folder)
    http = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{public}", timeout=30))
    deadline = monotonic() + 60
    while True:
        try:
            form = await http.get("/hub/login", headers=BROWSER)
            if form.status_code == 200:
                break
        except httpx.HTTPError:
            pass
        if monotonic() > deadline:
            raise SystemExit("JupyterHub does not answer:\n" + (folder / "log").read_text()[-2000:])
        await asyncio.sleep(0.2)
    token = re.findall(r'name="_xsrf"\s+value="([^"]+)"', form.text)[0]
    entered = {"_xsrf": token, "username": "anna", "password": "x"}
    await http.post("/hub/login", data=entered, headers=BROWSER)
    for path, expected in (("/hub/home", "anna"), ("/hub/api/user", '"name": "anna"')):
        answer = await http.get(path, headers={**BROWSER, "Referer": f"http://127.0.0.1:{public}/hub/home"})
        if answer.status_code != 200 or expected not in answer.text:
            raise SystemExit(f"JupyterHub's {path}: {answer.status_code} {answer.text[:300]}")
    return {
        "JupyterHub home": Page(f"http://127.0.0.1:{public}/hub/home", _cookies(http)),
        "JupyterHub user": Page(f"http://127.0.0.1:{public}/hub/api/user", _cookies(http)),
    }


async def _load(page: Page, connections: int, seconds: float) -> tuple[float, float]:
    """Requests a second, and the p99 in milliseconds; a request that fails ends the run."""
    headers = {**BROWSER, "Cookie": page.cookies}
    if "/hub/" in page.url:
        headers["Referer"] = page.url.partition("/hub/")[0] + "/hub/home"
    arguments = [part for name, value in headers.items() if value for part in ("-H", f"{name}: {value}")]
    process = await asyncio.create_subprocess_exec(
        *("wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds:g}s", "--latency", *arguments, page.url),
        stdout=asyncio.subprocess.PIPE,
    )
    out = (await process.communicate())[0].decode()
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"{page.url}: {out}")
    number, unit = re.findall(r"99%\s+([\d.]+)(us|ms|s)", out)[0]
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", out)[0])
    return rate, float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def _table(pages: Mapping[str, Page]) -> str:
    lines = [f"{'page':<30}{'requests/s':>12}{'p99 ms':>10}"]
    lines += [f"{name:<30}{page.rate:>12.0f}{statistics.median(page.p99_ms):>10.1f}" for name, page in pages.items()]
    lines += ["", f"{'ratio, the median of the rounds':<42}{'is':>8}{'wanted':>10}"]
    for what, ours, theirs, wanted in TARGETS:
        if theirs in pages:
            both = zip(pages[ours].rates, pages[theirs].rates, strict=True)
            ratio = statistics.median(one / other for one, other in both)
            lines.append(f"{what:<42}{ratio:>8.2f}{f'≥ {wanted}' if wanted else '':>10}")
    return "\n".join(lines)


async def main(given: argparse.Namespace) -> None:
    mail = MailServer()
    mail.start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "ours").mkdir()
        (folder / "ours").chmod(0o755)
        async with AsyncExitStack() as stack:
            pages = await _ours(stack, mail, folder / "ours", given.docker)
            if given.no_hub:
                pass
            elif shutil.which("npm") is None or shutil.which("node") is None:
                print("node or npm is missing: JupyterHub is left out", flush=True)
            else:
                pages |= await _hub(stack, given.cache, folder / "hub")
            wanted: Sequence[str] = given.only or tuple(pages)
            pages = {name: page for name, page in pages.items() if any(part in name for part in wanted)}
            for number in range(given.rounds + 1):
                for page in pages.values():
                    rate, p99 = await _load(page, given.connections, given.seconds if number else 1)
                    if number:  # the first one warms up
                        page.rates.append(rate)
                        page.p99_ms.append(p99)
                print(f"round {number} of {given.rounds}", file=sys.stderr, flush=True)
            print(_table(pages))
    mail.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--docker", action="store_true", help="run the instance in the real engine")
    parser.add_argument("--no-hub", action="store_true", help="leave JupyterHub out")
    parser.add_argument("--only", action="append", metavar="TEXT", help="pages whose name holds this; may be repeated")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where JupyterHub is installed (%(default)s)")
    asyncio.run(main(parser.parse_args()))

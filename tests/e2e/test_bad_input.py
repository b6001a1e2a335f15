"""Every mistake gets a clear, specific error, and nothing is half done."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic

import httpx

from support.live import LivePlatform, StartPlatform
from support.ports import free_ports


async def test_what_is_not_offered_is_refused_with_its_field(shared_platform: LivePlatform) -> None:
    """Unknown environment, memory beyond the choices, a size that is none: 422 with the field; no instance."""
    async with shared_platform.person("kim@example.org") as kim:
        for wish, field, words in (
            ({"environment": "matlab"}, "environment", "rstudio, jupyterlab"),
            ({"environment": "jupyterlab", "memory": "999g"}, "memory", "999 GB is not offered"),
            ({"environment": "jupyterlab", "memory": "much"}, "memory", "is not a size"),
            ({"environment": "jupyterlab", "cpus": 63}, "cpus", "not offered"),
            ({"environment": "jupyterlab", "days": 400}, "days", "not offered"),
            ({"environment": "jupyterlab", "colour": "red"}, "colour", ""),
        ):
            answer = await kim.http.post("/api/v1/instances", json=wish)
            assert answer.status_code == 422, (wish, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            errors = {one["field"]: one["message"] for one in answer.json()["errors"]}
            assert list(errors) == [field]
            assert words in errors[field]
        assert (await kim.http.get("/api/v1/instances?all=true")).json() == []


async def test_a_wrong_code_and_a_foreign_domain(start_platform: StartPlatform) -> None:
    """A wrong code says so and signs nobody in; a foreign domain is refused at once and gets no mail."""
    live = await start_platform({"sign_in": {"allowed_domains": ["institute.edu"]}})
    async with httpx.AsyncClient(base_url=live.public_url, timeout=60) as http:
        await http.post("/api/v1/sign-in", json={"email": "lea@institute.edu"})
        code = await live.mail.code_for("lea@institute.edu")
        wrong = await http.post("/api/v1/sign-in/verify", json={"code": "000000" if code != "000000" else "111111"})
        assert wrong.status_code == 401
        assert "code is not right" in wrong.json()["detail"]
        assert (await http.get("/api/v1/me")).status_code == 401
        foreign = await http.post("/api/v1/sign-in", json={"email": "lea@elsewhere.edu"})
        assert foreign.status_code == 422
        assert "institute.edu" in foreign.json()["detail"], "the domains are public"
        page = await http.get("/sign-in", headers={"Accept": "text/html"})
        assert "institute.edu" in page.text, "the page says beforehand whose addresses are taken"
        nonsense = await http.post("/api/v1/sign-in", json={"email": "lea at institute"})
        assert nonsense.status_code == 422
        assert nonsense.json()["errors"][0]["field"] == "email"
    await asyncio.sleep(0.5)
    assert live.mail.mails_to("lea@elsewhere.edu") == []


async def test_no_engine(start_platform: StartPlatform, tmp_path: Path) -> None:
    """The portal works without its engine and says what is wrong; nothing is recorded."""
    live = await start_platform({"engine": {"host": "unix:///var/run/docker.sock"}})
    absent = f"unix://{tmp_path}/no-engine.sock"
    await live.kill_portal()
    live.tables["engine"]["host"] = absent
    await live.start_portal(wait=False)
    async with httpx.AsyncClient(base_url=live.public_url, timeout=60) as http:
        for _ in range(200):
            ready = await http.get("/readyz")
            if ready.status_code == 503 and "engine" in ready.text:
                break
            await asyncio.sleep(0.05)
        assert ready.json()["engine"] == "not answering"
        assert ready.json()["store"] == "ok"
    async with live.person("max@example.org") as person:
        began = monotonic()
        answer = await person.http.post("/api/v1/instances", json={"environment": "jupyterlab"})
        assert answer.status_code == 503
        assert "engine does not answer" in answer.json()["detail"]
        assert monotonic() - began < 5
        assert (await person.http.get("/api/v1/instances?all=true")).json() == []
        catalogue = (await person.http.get("/api/v1/environments")).json()
        assert not any(one["available"] for one in catalogue)


async def test_f12_no_image(start_platform: StartPlatform) -> None:
    """An image that is not there: refused at once with the reason, and the place is not taken."""
    table = {"name": "jupyterlab", "image": "launchpad/none:1", "build": "no-such-recipe"}
    live = await start_platform({"environments": [table]})
    async with live.person("nia@example.org") as nia:
        began = monotonic()
        answer = await nia.http.post("/api/v1/instances", json={"environment": "jupyterlab"})
        assert answer.status_code == 503
        assert "launchpad images pull" in answer.json()["detail"]
        assert monotonic() - began < 5
        assert (await nia.http.get("/api/v1/instances?all=true")).json() == []


async def test_f6_no_mail_server(start_platform: StartPlatform) -> None:
    """The answer comes at once and is the same; the page says that mail is not leaving; no SMTP text is shown."""
    live = await start_platform({"mail": {"port": free_ports(1)[0]}})
    async with httpx.AsyncClient(base_url=live.public_url, timeout=60) as http:
        began = monotonic()
        answer = await http.post("/api/v1/sign-in", json={"email": "ole@example.org"})
        assert answer.status_code == 202
        assert monotonic() - began < 1
        for _ in range(100):
            page = await http.get("/sign-in/code", headers={"Accept": "text/html"})
            if "mail server is not answering" in page.text:
                break
            await asyncio.sleep(0.1)
        assert "mail server is not answering" in page.text
        assert "refused" not in page.text.lower()


async def test_unwritable_home_root(start_platform: StartPlatform) -> None:
    """The launch fails with the reason in words; no container stays."""
    live = await start_platform()
    live.homes.rmdir()
    async with live.person("pia@example.org") as pia:
        instance = await pia.launch("jupyterlab")
        for _ in range(100):
            instance = await pia.get(instance["id"])
            if instance["state"] == "failed":
                break
            await asyncio.sleep(0.05)
        assert instance["state"] == "failed"
        assert "Home folders cannot be created" in instance["reason"]
        assert "does not exist" in instance["reason"]
        assert live.containers() == []


def test_a_broken_settings_file_names_file_line_and_key(tmp_path: Path) -> None:
    """Nothing starts, and the text says where to look."""
    config = tmp_path / "launchpad.toml"
    config.write_text('state_dir = "/tmp"\n\n[sign_in]\ncode_minutes = "soon"\n')
    done = _serve(config)
    assert done.returncode == 1
    assert f"{config}, line 4: sign_in.code_minutes" in done.stderr
    config.write_text("[sign_in\n")
    assert f"{config}" in _serve(config).stderr
    assert "line 1" in _serve(config).stderr


def _serve(config: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LAUNCHPAD_")}
    return subprocess.run(
        [sys.executable, "-m", "launchpad", "serve", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=clean | {"COLUMNS": "300"},
    )

"""The administrator's commands, against a platform that runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from pathlib import Path

from support.firewalls import our_rules
from support.live import LivePlatform, StartPlatform
from support.open_program import open_program


async def test_users_and_instances_from_the_terminal(start_platform: StartPlatform) -> None:
    """List, stop, extend, suspend, activate, role: what the commands do is what the portal sees."""
    live = await start_platform()
    async with live.person("ulla@example.org") as ulla:
        instance = await ulla.launch_and_wait("jupyterlab")
        (user,) = json.loads(live.command("user", "list", "--json"))
        assert (user["email"], user["role"], user["status"]) == ("ulla@example.org", "user", "active")
        (row,) = json.loads(live.command("instance", "list", "--json"))
        assert (row["id"], row["owner"], row["state"]) == (instance["id"], "ulla@example.org", "running")
        assert "ulla@example.org" in live.command("instance", "list")

        live.command("instance", "extend", instance["id"], "1")
        assert (await ulla.get(instance["id"]))["expires_at"] > instance["expires_at"]
        live.command("user", "role", "ulla@example.org", "admin")
        assert (await ulla.http.get("/api/v1/admin/users")).status_code == 200
        refused = live.command("user", "suspend", "ulla@example.org", ok=False)
        assert "last active administrator" in refused
        live.command("user", "role", "ulla@example.org", "user", ok=False)

        async with live.person("admin@example.org") as admin:
            assert admin.me["role"] == "admin"
            live.command("user", "suspend", "ulla@example.org")
            assert (await ulla.http.get("/api/v1/me")).status_code == 401, "the login ended at once"
            assert live.containers() == [], "and so did the instance, with its time to save"
            live.command("user", "activate", "ulla@example.org")
            actions = [one["action"] for one in json.loads(live.command("audit", "--json"))]
            assert {"instance.launched", "instance.extended", "user.changed", "sign-in.succeeded"} <= set(actions)


async def test_limits_from_the_terminal(start_platform: StartPlatform) -> None:
    """What `limits show --json` prints, `limits set` takes; what cannot be offered is refused with its field."""
    live = await start_platform()
    limits = json.loads(live.command("limits", "show", "--json"))
    limits["memory"], limits["defaults"]["memory"] = ["1g", "3g"], "3g"
    live.command("limits", "set", json.dumps(limits))
    async with live.person("vera@example.org") as vera:
        (environment, *_) = (await vera.http.get("/api/v1/environments")).json()
        assert environment["choices"]["memory"] == ["1g", "3g"]
        assert environment["defaults"]["memory"] == "3g"
    limits["defaults"]["memory"] = "2g"
    assert "memory: the default must be one of the choices" in live.command(
        "limits", "set", json.dumps(limits), ok=False
    )


async def test_announcements_from_the_terminal(shared_platform: LivePlatform) -> None:
    """Announced, it is on the portal's pages at once; withdrawn, it is gone. A moment without an offset is UTC."""
    live = shared_platform
    refused = live.command("announce", "New disks", "--stop-instances-at", "2020-01-01T10:00", ok=False)
    assert "this moment has passed" in refused
    live.command(
        "announce", "New disks", "--stop-instances-at", "2099-01-01T10:00+08:00", "--until", "2099-01-01T04:00"
    )
    (row,) = json.loads(live.command("announce", "--json"))
    assert (row["text"], row["by"]) == ("New disks", "cli")
    assert row["stop_instances_at"].startswith("2099-01-01T02:00:00")
    assert row["until"].startswith("2099-01-01T04:00:00")
    async with live.person("wanda@example.org") as wanda:
        assert [one["id"] for one in (await wanda.http.get("/api/v1/announcements")).json()] == [row["id"]]
        page = (await wanda.http.get("/account", headers={"Accept": "text/html"})).text
        assert "New disks" in page
        live.command("announce", "--withdraw", row["id"])
        assert (await wanda.http.get("/api/v1/announcements")).json() == []
    assert json.loads(live.command("announce", "--json")) == []


async def test_capacity_by_lab_from_the_terminal(shared_platform: LivePlatform) -> None:
    """Set, listed, refused where the server has not that much, and removed."""
    live = shared_platform
    live.command("limits", "lab", "Genomics", "--guaranteed-memory", "512m", "--max-cpus", "4")
    (lab,) = json.loads(live.command("limits", "labs", "--json"))
    assert lab == {
        "lab": "Genomics",
        "guaranteed_memory": "512m",
        "guaranteed_cpus": None,
        "max_memory": None,
        "max_cpus": 4.0,
    }
    refused = live.command("limits", "lab", "Genomics", "--guaranteed-memory", "900t", ok=False)
    assert "would be guaranteed in all" in refused
    live.command("limits", "lab", "Genomics")
    assert json.loads(live.command("limits", "labs", "--json")) == []


async def test_images_and_nginx(shared_platform: LivePlatform, tmp_path: Path) -> None:
    """Which image is used, and that the RStudio here is a stand-in; the whole nginx configuration in both forms."""
    rows = {one["environment"]: one for one in json.loads(shared_platform.command("images", "list", "--json"))}
    assert rows["rstudio"]["wanted"].startswith("rocker/rstudio:")
    assert rows["rstudio"]["uses"].startswith("launchpad/rstudio-standin:")
    assert rows["rstudio"]["stand_in"] is True
    assert rows["jupyterlab"]["stand_in"] is False
    for form in ("full", "site"):
        target = tmp_path / form
        shared_platform.command("nginx", "render", "--form", form, "-o", str(target))
        assert "auth_request" in target.read_text()
    assert "no registry answers" in shared_platform.command("images", "pull", ok=False)
    assert "There is no recipe" in shared_platform.command("images", "build", "nonsense", ok=False)


async def test_the_doctor_on_a_whole_platform(shared_platform: LivePlatform) -> None:
    """Real engine, rules, kernel, mail server; the way it is reached is only good for a trial, and it says so."""
    shared_platform.command("sweep")
    listed = json.loads(shared_platform.command("doctor", "--json"))
    assert {tuple(one) for one in listed} == {("level", "subject", "text", "remedy")}
    findings = {one["subject"]: one for one in listed}
    for subject in (
        "files",
        "file-access",
        "database",
        "limits",
        "network",
        "connections",
        "sweep",
        "mail",
        "versions",
    ):
        assert findings[subject]["level"] == "ok", findings[subject]
    assert not [one for one in listed if one["level"] == "bad"], listed
    assert "Two ports of one host" in findings["origins"]["text"]
    assert "helper.socket is not set" in findings["rights"]["text"]
    assert "nginx 1." in findings["versions"]["text"]
    assert "plain http" in findings["certificate"]["text"]
    text = shared_platform.command("doctor")
    assert "Open connections are closed when access to an instance ends." in text


async def test_the_doctor_fails_where_something_is_bad(start_platform: StartPlatform) -> None:
    live = await start_platform({"mail": {"port": 9}})
    said = await asyncio.to_thread(live.command, "doctor", ok=False)
    assert "bad" in said
    assert "mail: The mail server did not accept the mail: 127.0.0.1, port 9, cannot be reached." in said
    assert "Check mail.host and mail.port" in said


async def test_the_doctor_looks_at_limits_rules_and_certificate_of_a_server_in_use(
    start_platform: StartPlatform,
) -> None:
    """Over https, with an instance that runs: the engine, the kernel and nginx are asked; then limits are loosened."""
    live = await start_platform(mode="two names over https")
    async with live.person("olga@example.org") as olga:
        instance = await olga.launch_and_wait("jupyterlab")

        def findings(*, ok: bool) -> dict[str, dict[str, str]]:
            return {one["subject"]: one for one in json.loads(live.command("doctor", "--json", ok=ok))}

        found = await asyncio.to_thread(findings, ok=True)
        assert "for 1 of 1 running instances" in found["limits"]["text"]
        assert (found["network"]["level"], "nor this server" in found["network"]["text"]) == ("ok", True)
        assert found["certificate"]["level"] == "warn"
        assert "self-signed" in found["certificate"]["text"], "the last one said; the first is that it ends soon"
        _output("docker", "update", "--cpus", "2", "--pids-limit", "-1", live.container_of(instance["id"])["Id"])
        found = await asyncio.to_thread(findings, ok=False)
        assert found["limits"]["level"] == "bad"
        assert "cores 2 instead of 1; processes without limit instead of" in found["limits"]["text"]


async def test_the_doctor_of_a_portal_without_rights_asks_the_helper(start_platform: StartPlatform) -> None:
    """Called by root, it works as the portal's user, and what needs root is the helper's to look at."""
    with tempfile.TemporaryDirectory(prefix="launchpad-doctor-") as name, open_program() as program:
        Path(name).chmod(0o755)  # pytest's own folders are root's alone
        live = await start_platform(below=Path(name), helper_user="nobody", program=program)
        await asyncio.to_thread(live.command, "sweep")
        async with live.person("pia@example.org") as pia:
            instance = await pia.launch_and_wait("jupyterlab")
            listed = json.loads(await asyncio.to_thread(live.command, "doctor", "--json"))
            await pia.stop(instance["id"])
        await live.stop()
    found = {one["subject"]: one for one in listed}
    for subject in ("rights", "files", "file-access", "limits", "connections", "network", "sweep"):
        assert found[subject]["level"] == "ok", found[subject]
    assert "privileged helper" in found["rights"]["text"]
    assert "for 1 of 1 running instances" in found["limits"]["text"]
    assert "only this server reaches them" in found["network"]["text"]


async def test_doctor_sends_a_mail_and_says_what_to_look_for(start_platform: StartPlatform) -> None:
    live = await start_platform()
    said = await asyncio.to_thread(live.command, "doctor", "mail", "--to", "Root@Example.org")
    assert "127.0.0.1 accepted the mail" in said
    assert "SPF and DKIM of example.org" in said
    (mail,) = live.mail.mails_to("root@example.org")
    assert "Test e-mail" in str(mail["Subject"])
    refused = await asyncio.to_thread(live.command, "doctor", "mail", "--to", "root", ok=False)
    assert "does not look like an e-mail address" in refused


async def test_the_network_and_its_rules_leave_the_server(start_platform: StartPlatform) -> None:
    """While instances are in it, it stays."""
    live = await start_platform()
    async with live.person("nora@example.org") as nora:
        instance = await nora.launch_and_wait("jupyterlab")
        assert any(our_rules(live.deployment_id).values())
        await asyncio.to_thread(live.command, "network", "remove", ok=False)
        await nora.stop(instance["id"])
        await asyncio.to_thread(live.command, "network", "remove")
        assert live.network not in _output("docker", "network", "ls")
        assert not any(our_rules(live.deployment_id).values())


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

"""A whole server with systemd: installed by `install.sh`, used through TLS, upgraded, restored, and left again.

The server is a container whose first process is systemd. What needs a kernel of its own is in
`test_server_emulated.py`. The tests stand in the order of a server's life and build on each other.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from websockets.exceptions import InvalidStatus

from support.btrfs import btrfs_in_a_file
from system.machine import ContainerMachine, Machine
from system.server import (
    BACKUP_KEY,
    EMAIL,
    INSTALL_SECONDS,
    INSTANCES,
    PORTAL,
    Server,
    install,
    install_from_nothing,
    server_on,
    slow_sweeps,
)

pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 300)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """Its homes are on btrfs, so that what the units allow is enough for limits and snapshots."""
    with btrfs_in_a_file(1024) as homes:
        async with server_on(ContainerMachine(tmp_path_factory.mktemp("server"), homes=homes)) as made:
            yield made


async def test_answers_that_do_not_fit_are_refused_before_anything_is_done(server: Server) -> None:
    good = {"--url": f"https://{PORTAL}", "--instances-url": f"https://{INSTANCES}", "--admin": EMAIL, "--mail": "none"}
    for option, value, said in (
        ("--url", "", "--url is needed"),
        ("--url", "http://lab.example.org", "write it like https"),
        ("--url", "https://lab.example.org/path", "write it like https"),
        ("--instances-url", "https://{user}.example.org", "write it like https"),
        ("--admin", "nobody", "write it like you@"),
        ("--admin", 'a"@example.org', "write it like you@"),
        ("--tls", "none", "choose self-signed"),
        ("--tls", "files", "needs --certificate and --key"),
        ("--mail", "a b", "host name"),
        ("--mail-port", "many", "write a number"),
        ("--images", "buy", "choose pull"),
        ("--settings", "/root/nothing.toml", "cannot be read"),
        ("--colour", "red", "There is no option --colour"),
    ):
        options = " ".join(f"{name} {shlex.quote(text)}" for name, text in ({**good, option: value}).items())
        refused = server.machine.run(f"cd /root/clone && ./install.sh --unattended {options}; echo code $?")
        assert said in refused, (option, value, refused)
        assert refused.rstrip().endswith("code 1"), refused
    assert server.machine.code("test -e /etc/launchpad || test -e /opt/launchpad || id launchpad") != 0


async def test_a_fresh_server_is_installed_by_one_command(server: Server) -> None:
    """And asked nothing."""
    await install_from_nothing(server)


async def test_units_are_sound_and_closed(server: Server) -> None:
    machine = server.machine
    units = " ".join(f"/etc/systemd/system/launchpad*.{kind}" for kind in ("service", "socket", "timer"))
    assert machine.run(f"systemd-analyze verify {units}").strip() == ""
    closed = ("launchpad", "launchpad-sweep", "launchpad-backup", "launchpad-drill", "launchpad-failed@some")
    for unit, most in (*((unit, 2.0) for unit in closed), ("launchpad-helper", 4.5)):
        said = machine.run(f"systemd-analyze security --no-pager {unit}.service")
        exposure = re.search(r"exposure level for \S+: ([\d.]+)", said)
        assert exposure is not None, said
        assert float(exposure[1]) <= most, f"{unit}: {exposure[1]}"


async def test_c6_the_portals_user_has_neither_engine_nor_homes(server: Server) -> None:
    machine = server.machine
    assert machine.run("ps -o user= -p $(systemctl show -p MainPID --value launchpad)").strip() == "launchpad"
    denied = machine.run(
        "runuser -u launchpad -- docker run --rm -v /:/h launchpad-test/echo:1 cat /h/etc/shadow", ok=False
    )
    assert "permission denied" in denied
    assert "launchpad-test/echo:1" in machine.run("docker image ls --format '{{.Repository}}:{{.Tag}}'"), "the control"
    assert machine.code("runuser -u www-data -- cat /etc/launchpad/launchpad.toml") != 0


async def test_a_researcher_signs_in_over_tls_and_works(server: Server) -> None:
    """Page, WebSocket, home: through nginx, in a container with the user's own uid."""
    await server.sign_in()
    assert (await server.http.get("/api/v1/me")).json()["role"] == "admin"
    instance_id = await server.launch()
    page = await server.open(instance_id)
    assert page.status_code == 200
    uid = int(page.text.removeprefix("here as "))
    assert uid >= 200_000
    async with server.socket(instance_id) as connection:
        await connection.send("hello")
        assert await connection.recv() == "hello"
    with pytest.raises(InvalidStatus):
        async with server.socket(instance_id, cookie=False):
            pass
    home = server.machine.run("stat -c '%u %a' /home/admin-user; echo kept >/home/admin-user/kept").split()
    assert home == [str(uid), "700"]
    put = await server.http.put("/api/v1/home/files", params={"path": "notes"}, content=b"mine")
    assert put.status_code == 200, put.text
    assert server.machine.run("cd /home/admin-user && stat -c %u notes && cat notes").split() == [str(uid), "mine"]
    kept = await server.http.get("/api/v1/home/files", params={"path": "kept"})
    assert (kept.status_code, kept.text) == (200, "kept\n")
    assert "Users can reach their files" in server.machine.run("launchpad doctor", ok=False)
    dashboard = await server.http.get("/dashboard")
    assert dashboard.status_code == 200
    assert "max-age" in dashboard.headers["strict-transport-security"]


async def test_homes_on_btrfs_keep_their_limits_and_come_back_as_they_were(server: Server) -> None:
    (instance,) = (await server.http.get("/api/v1/instances")).json()
    assert (await server.open(instance["id"], "/fill/40")).text == "written"
    assert (await server.open(instance["id"], "/fill/100")).text == "Disk quota exceeded"
    assert server.machine.code("touch /home/beside && rm /home/beside") == 0
    me = (await server.http.get("/api/v1/me")).json()
    more = await server.http.patch(f"/api/v1/admin/users/{me['id']}", json={"quota": {"storage": "1g"}})
    assert more.status_code == 200, more.text
    taken = (await server.http.get("/api/v1/home/snapshots")).json()
    assert taken["obstacle"] is None, taken
    (before,) = [one["name"] for one in taken["snapshots"] if one["cause"] == "before"]
    for files in (
        await server.http.delete("/api/v1/home/files", params={"path": "filling", "forever": True}),
        await server.http.put("/api/v1/home/files", params={"path": "notes"}, content=b"overwritten"),
    ):
        assert files.is_success, files.text
    wish = {"snapshot": before, "path": "notes", "to": "in place"}
    restored = await server.http.post("/api/v1/home/restores", json=wish)
    assert restored.status_code == 201, restored.text
    assert (await server.http.get("/api/v1/home/files", params={"path": "notes"})).text == "mine"
    assert "with size limits" in server.machine.run("launchpad doctor", ok=False)


async def test_the_timer_ends_what_has_expired(server: Server) -> None:
    (instance,) = (await server.http.get("/api/v1/instances")).json()
    server.machine.run(
        "runuser -u launchpad -- python3 -c \"import sqlite3; db = sqlite3.connect('/var/lib/launchpad/launchpad.db');"
        " db.execute('UPDATE instances SET expires_at = ?', ('2020-01-01 00:00:00.000000',)); db.commit()\""
    )
    slow_sweeps(server.machine, slow=False)
    ended = await server.until(instance["id"], "expired")
    assert ended["reason"].startswith("expired")
    slow_sweeps(server.machine, slow=True)
    assert server.machine.run("docker ps -q").strip() == ""


async def test_f2_instances_outlive_a_restart_of_the_engine_and_of_the_portal(server: Server) -> None:
    """Of the engine: connections go through a process of its own, and are made anew. Of the portal: not even those."""
    instance_id = await server.launch()
    await server.open(instance_id)
    started = "docker ps -q --no-trunc | xargs docker inspect -f '{{.Id}} {{.State.Pid}} {{.State.StartedAt}}'"
    before = server.machine.run(started)
    server.machine.run("systemctl restart docker")
    assert server.machine.run(started) == before
    await server.until_ready()
    async with server.socket(instance_id) as connection:
        server.machine.run("systemctl restart launchpad launchpad-helper")
        await connection.send("still here")
        assert await connection.recv() == "still here"
    await server.until_ready()
    assert (await server.http.get(f"/api/v1/instances/{instance_id}")).json()["state"] == "running"
    assert (await server.http.get(f"https://{INSTANCES}/i/{instance_id}/")).status_code == 200


async def test_another_run_of_the_installer_changes_nothing_that_runs(server: Server) -> None:
    settings = server.machine.run("sha256sum /etc/launchpad/launchpad.toml /etc/launchpad/tls/*")
    before = server.machine.run("systemctl show -p ActiveEnterTimestamp launchpad launchpad-helper; docker ps -q")
    install(server.machine)
    assert server.machine.run("sha256sum /etc/launchpad/launchpad.toml /etc/launchpad/tls/*") == settings
    assert (
        server.machine.run("systemctl show -p ActiveEnterTimestamp launchpad launchpad-helper; docker ps -q") == before
    )


async def test_f16_a_nightly_backup_is_rehearsed_and_brought_back_on_a_server_that_knows_nothing(
    server: Server,
) -> None:
    """The units of the timers; the site's own program for the homes; then a new deployment becomes the old one."""
    machine = server.machine
    (instance,) = [each for each in (await server.http.get("/api/v1/instances")).json() if each["state"] == "running"]
    machine.run(
        "printf '#!/bin/sh\\ntouch /root/homes-saved\\n' >/etc/launchpad/backup-homes && "
        "chmod +x /etc/launchpad/backup-homes && systemctl start launchpad-backup.service"
    )
    made = machine.run("ls -t /var/backups/launchpad/*.tar.gz.age | head -n 1").strip()
    assert machine.run(f"stat -c '%U %a' {made}").split() == ["launchpad", "600"]
    machine.run("for each in $(seq 60); do test -e /root/homes-saved && exit; sleep 1; done; exit 1")
    machine.run("rm -f /var/lib/launchpad/outbox/*.eml; systemctl start launchpad-drill.service")
    assert "drill passed" in machine.run("grep -h ^Subject: /var/lib/launchpad/outbox/*.eml")

    old_id = machine.run("cat /var/lib/launchpad/deployment-id")
    machine.run(
        "systemctl stop launchpad.socket launchpad launchpad-sweep.timer launchpad-helper; "
        "mkdir /root/old && mv /var/lib/launchpad/* /root/old/ && rm -rf /var/lib/launchpad-helper/*; "
        "launchpad user list --json >/dev/null && systemctl start launchpad.socket launchpad launchpad-sweep.timer"
    )
    assert machine.run("cat /var/lib/launchpad/deployment-id") != old_id
    machine.run(f"cat >/root/identity <<'END'\n{BACKUP_KEY}\nEND")
    said = machine.run(f"launchpad restore {made} --identity /root/identity")
    assert "Restored 1 users and" in said
    assert machine.run("cat /var/lib/launchpad/deployment-id") == old_id
    await server.until_ready()
    assert (await server.http.get("/api/v1/me")).status_code == 401, "nobody is signed in"
    await server.sign_in()
    assert (await server.http.get(f"/api/v1/instances/{instance['id']}")).json()["state"] == "running"
    assert (await server.open(instance["id"])).status_code == 200
    machine.run("sleep 3")  # the connections of those who were signed out are cut a second time, and ours with them
    kept = machine.run("cat /var/lib/launchpad/launchpad.toml.restored")
    assert kept.strip() == machine.run("cat /etc/launchpad/launchpad.toml").strip()


async def test_f5_while_the_disk_is_full_changes_answer_503_and_instances_go_on(server: Server) -> None:
    """No half row, and work goes on by itself when there is room again."""
    machine = server.machine
    (instance,) = [each for each in (await server.http.get("/api/v1/instances")).json() if each["state"] == "running"]

    async def add(name: str) -> int:
        answer = await server.http.post("/api/v1/tokens", json={"name": name})
        assert answer.status_code in (200, 201, 503), answer.text
        assert answer.headers["content-type"].startswith("application/"), answer.text
        return answer.status_code

    async with server.socket(instance["id"]) as connection:
        machine.run("head -c 20G /dev/zero >/var/lib/launchpad/.filling 2>/dev/null; sync", ok=False)
        statuses = []
        for number in range(400):
            statuses.append(await add(f"full-{number}"))
            if statuses[-3:] == [503] * 3:
                break
        assert statuses[-1] == 503, "the disk never was full for the portal"
        await connection.send("still here")
        assert await connection.recv() == "still here"
        machine.run("rm /var/lib/launchpad/.filling; sync")
    assert await add("after") < 300
    there = [token["name"] for token in (await server.http.get("/api/v1/tokens?limit=500")).json()]
    expected = [f"full-{number}" for number, status in enumerate(statuses) if status < 300]
    assert sorted(there) == sorted([*expected, "after"])
    checked = machine.run(
        "runuser -u launchpad -- python3 -c \"import sqlite3; db = sqlite3.connect('/var/lib/launchpad/launchpad.db');"
        " print(db.execute('PRAGMA integrity_check').fetchone()[0])\""
    )
    assert checked.strip() == "ok"


BROKEN = {
    # Changes the tables, and then does not start.
    "src/launchpad/store/migrations/versions/9999_another_table.py": (
        '"""Another table"""\n\nrevision = "9999"\ndown_revision = "{head}"\n'
        "branch_labels = None\ndepends_on = None\n\n\n"
        "def upgrade() -> None:\n    from alembic import op\n\n    op.execute('CREATE TABLE another (id INTEGER)')\n"
    ),
}


def another_version(machine: Machine, version: str, folder: str) -> str:
    """A clone that calls itself `version`."""
    machine.run(
        f"rm -rf {folder} && cp -R /root/clone {folder} && "
        f"sed -i 's/^__version__ = .*/__version__ = \"{version}\"/' {folder}/src/launchpad/__init__.py && "
        f"sed -i 's/^version = .*/version = \"{version}\"/' {folder}/pyproject.toml"
    )
    return folder


async def test_an_upgrade_that_does_not_become_healthy_is_taken_back(server: Server) -> None:
    machine = server.machine
    (instance,) = [each for each in (await server.http.get("/api/v1/instances")).json() if each["state"] == "running"]
    await server.open(instance["id"])
    head = max(re.findall(r"^(\d{4})_", machine.run("ls /root/clone/src/launchpad/store/migrations/versions"), re.M))
    broken = another_version(machine, "0.2.0", "/root/broken")
    for name, text in BROKEN.items():
        machine.run(f"cat >{broken}/{name} <<'END'\n{text.replace('{head}', head)}END")
    machine.run(
        f"sed -i 's/^\\( *\\)await self.database.migrate()$/&\\n\\1raise RuntimeError(\"broken\")/' "
        f"{broken}/src/launchpad/platform.py && grep -q broken {broken}/src/launchpad/platform.py"
    )
    async with server.socket(instance["id"]) as connection:
        said = install(machine, clone=broken, ok=False)
        assert "0.1.0 was restored, instances kept running" in said, said
        assert "from before the upgrade was restored" in said, said
        await connection.send("still here")
        assert await connection.recv() == "still here"
    await server.until_ready()
    assert machine.run("launchpad version").strip() == "0.1.0"
    assert (await server.http.get(f"/api/v1/instances/{instance['id']}")).json()["state"] == "running"
    assert machine.run("systemctl is-active launchpad launchpad-helper launchpad-sweep.timer").split() == ["active"] * 3


async def test_an_upgrade_keeps_instances_and_logins_and_the_way_back_is_closed(server: Server) -> None:
    machine = server.machine
    (instance,) = [each for each in (await server.http.get("/api/v1/instances")).json() if each["state"] == "running"]
    await server.open(instance["id"])
    async with server.socket(instance["id"]) as connection:
        said = install(machine, clone=another_version(machine, "0.1.1", "/root/newer"))
        assert said.rstrip().endswith(f"Ready: https://{PORTAL}"), said
        await connection.send("still here")
        assert await connection.recv() == "still here"
    assert machine.run("launchpad version").strip() == "0.1.1"
    assert (await server.http.get("/api/v1/me")).status_code == 200
    assert len(machine.run("ls /opt/launchpad/releases").split()) == 2, "what was before is kept, and no more"
    refused = install(machine, ok=False)
    assert "Version 0.1.1 is installed, and this is the older 0.1.0" in refused
    assert machine.run("launchpad version").strip() == "0.1.1"


async def test_settings_that_nginx_refuses_leave_the_site_as_it_is(server: Server) -> None:
    machine = server.machine
    machine.run("cp /etc/launchpad/tls/chain.pem /root/ && echo broken >/etc/launchpad/tls/chain.pem")
    said = machine.run("launchpad-apply", ok=False)
    assert "the previous one was restored" in said
    machine.run("cp /root/chain.pem /etc/launchpad/tls/chain.pem && launchpad-apply")
    await server.until_ready()


async def test_uninstalled_it_leaves_the_data_and_nothing_else(server: Server) -> None:
    machine = server.machine
    said = machine.run("cd /root/clone && ./install.sh --uninstall --yes")
    assert "Kept:" in said
    assert machine.run("docker ps -aq").strip() == ""
    assert "LP-" not in machine.run("iptables -S")
    assert "launchpad" not in machine.run("nft list tables")
    assert machine.code("docker network inspect launchpad") != 0
    assert machine.run("systemctl list-unit-files --no-legend 'launchpad*'", ok=False).strip() == ""
    assert machine.code("test -e /opt/launchpad || test -e /usr/local/bin/launchpad") != 0
    assert machine.run("cat /home/admin-user/kept").strip() == "kept"
    assert machine.code("test -s /var/lib/launchpad/launchpad.db && test -s /etc/launchpad/launchpad.toml") == 0
    machine.run("nginx -t")

"""What only a kernel of its own shows: ext4's project quotas, control groups version 2, and a server's next start.

The server is emulated, so each thing takes a while: what does not need it is in `test_server.py`. The tests stand in
the order of a server's life and build on each other.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from system.machine import EmulatedMachine
from system.server import INSTALL_SECONDS, MIB, Server, install_from_nothing, server_on

pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 300)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with server_on(EmulatedMachine(tmp_path_factory.mktemp("server"))) as made:
        yield made


async def test_a_fresh_server_is_installed_and_used(server: Server) -> None:
    server.machine.run("printf 'LABEL=homes /home ext4 prjquota,nodev,nosuid 0 2\n' >>/etc/fstab && mount /home")
    await install_from_nothing(server)
    await server.sign_in()
    instance_id = await server.launch()
    assert (await server.open(instance_id)).status_code == 200


async def test_a_full_home_ends_its_owners_writing(server: Server) -> None:
    """The storage that was chosen at the launch, 64 MB, is a project quota of ext4."""
    (instance,) = (await server.http.get("/api/v1/instances")).json()
    assert (await server.open(instance["id"], "/fill/40")).text == "written"
    assert (await server.open(instance["id"], "/fill/100")).text == "Disk quota exceeded"
    assert server.machine.code("touch /home/beside && rm /home/beside") == 0
    assert (await server.open(instance["id"], "/fill/1")).text == "written"
    assert "with size limits" in server.machine.run("launchpad doctor", ok=False)


async def test_project_quotas_keep_the_contract_of_homes(server: Server) -> None:
    """The suite that every way of keeping homes is held to, where the kernel has project quotas."""
    packages = Path(pytest.__file__).parents[1]
    patterns = ("pytest*", "_pytest", "xdist", "execnet*", "py.py", "pluggy*", "iniconfig*", "packaging*", "pygments*")
    names = [path.name for pattern in patterns for path in packages.glob(pattern)]
    server.machine.copy_in(packages, "/root/pytest", names)
    said = server.machine.run(
        "cd /root/clone && LAUNCHPAD_TEST_PROJECT_QUOTA_ROOT=/home/contract PYTHONPATH=src:tests:/root/pytest "
        "/opt/launchpad/current/bin/python -m pytest --noconftest -p no:cacheprovider -q "
        "tests/contract/test_storage.py -k 'project-quota or files_from_before or another_project'; "
        "rm -rf /home/contract",
        seconds=1800,
    )
    passed = re.search(r"^(\d+) passed", said, re.MULTILINE)
    assert passed is not None, said
    assert "failed" not in said, said
    assert "error" not in said.splitlines()[-1], said
    assert int(passed[1]) > 15


async def test_limits_are_in_force_under_cgroup_v2(server: Server) -> None:
    (instance,) = (await server.http.get("/api/v1/instances")).json()
    scope = server.scope(instance["id"])
    read = server.machine.run(f"cd {scope} && cat memory.max memory.swap.max pids.max cpu.max").split()
    assert read == [str(64 * MIB), "0", "2048", "100000", "100000"]


async def test_f13_after_a_reboot_the_platform_comes_back_by_itself(server: Server) -> None:
    """The instance's end is recorded with its reason, the home is there, and a new one starts."""
    (instance,) = [each for each in (await server.http.get("/api/v1/instances")).json() if each["state"] == "running"]
    server.machine.run("echo kept >/home/admin-user/kept")
    assert isinstance(server.machine, EmulatedMachine)
    server.machine.reboot()
    await server.until_ready()
    ended = await server.until(instance["id"], "failed", "stopped")
    assert ended["reason"]
    assert server.machine.run("systemctl is-active launchpad-sweep.timer nginx docker").split() == ["active"] * 3
    instance_id = await server.launch()
    assert (await server.open(instance_id)).status_code == 200
    assert server.machine.run("cat /home/admin-user/kept").strip() == "kept"

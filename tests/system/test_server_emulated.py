"""What only a kernel of its own shows: a server's next start, ext4's project quotas, control groups version 2.

That kernel is emulated, so each thing takes ten times as long as here. The server is therefore installed, used and shut
down in a container, and its disks are started in the emulator. The tests build on each other.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from system.machine import ContainerMachine, EmulatedMachine
from system.server import INSTALL_SECONDS, MIB, Server, install_from_nothing, server_on

pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 300)

# The suite that every way of keeping homes is held to, where the kernel has project quotas.
CONTRACT = (
    "cd /root/clone && LAUNCHPAD_TEST_PROJECT_QUOTA_ROOT=/home/contract PYTHONPATH=src:tests:/root/pytest "
    "/opt/launchpad/current/bin/python -m pytest --noconftest -p no:cacheprovider -q tests/contract/test_storage.py "
    "-k 'project-quota or files_from_before or another_project'"
)

PYTEST = "pytest* _pytest xdist execnet* py.py pluggy* iniconfig* packaging* pygments*"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """At its next start: it was shut down while somebody worked on it."""
    container = ContainerMachine(tmp_path_factory.mktemp("server"))
    async with server_on(container) as made:
        await install_from_nothing(made)
        await made.sign_in()
        instance_id = await made.launch()
        assert (await made.open(instance_id)).status_code == 200
        made.machine.run("echo kept >/home/admin-user/kept")
        # Found, and compiled, while that is quick.
        packages = Path(pytest.__file__).parents[1]
        names = [path.name for pattern in PYTEST.split() for path in packages.glob(pattern)]
        made.machine.copy_in(packages, "/root/pytest", names)
        made.machine.run(f"{CONTRACT} --collect-only")
        container.shut_down()
        machine = EmulatedMachine(tmp_path_factory.mktemp("emulated"), container)
        await made.move_to(machine)
        container.power_off()
        try:
            machine.start()
            yield made
        finally:
            machine.power_off()


async def test_f13_after_a_reboot_the_platform_comes_back_by_itself(server: Server) -> None:
    """The instance's end is recorded with its reason, the home is there, and a new one starts."""
    await server.until_ready()
    (instance,) = (await server.http.get("/api/v1/instances?all=true")).json()
    ended = await server.until(instance["id"], "failed", "stopped")
    assert ended["reason"]
    assert server.machine.run("systemctl is-active launchpad-sweep.timer nginx docker").split() == ["active"] * 3
    instance_id = await server.launch()
    assert (await server.open(instance_id)).status_code == 200
    assert server.machine.run("cat /home/admin-user/kept").strip() == "kept"


async def test_a_full_home_ends_its_owners_writing(server: Server) -> None:
    """The storage that was chosen at the launch, 64 MB, is a project quota of ext4."""
    instance_id = await running(server)
    assert (await server.open(instance_id, "/fill/40")).text == "written"
    assert (await server.open(instance_id, "/fill/100")).text == "Disk quota exceeded"
    assert server.machine.code("touch /home/beside && rm /home/beside") == 0
    assert (await server.open(instance_id, "/fill/1")).text == "written"
    assert "with size limits" in server.machine.run("launchpad doctor", ok=False)


async def test_project_quotas_keep_the_contract_of_homes(server: Server) -> None:
    said = server.machine.run(f"{CONTRACT}; rm -rf /home/contract", seconds=1800)
    passed = re.search(r"^(\d+) passed", said, re.MULTILINE)
    assert passed is not None, said
    assert "failed" not in said, said
    assert "error" not in said.splitlines()[-1], said
    assert int(passed[1]) > 15


async def test_limits_are_in_force_under_cgroup_v2(server: Server) -> None:
    scope = server.scope(await running(server))
    read = server.machine.run(f"cd {scope} && cat memory.max memory.swap.max pids.max cpu.max").split()
    assert read == [str(64 * MIB), "0", "2048", "100000", "100000"]


async def test_the_helper_may_push_out_memory_of_containers_and_changes_no_other_group(server: Server) -> None:
    """As it does for what is frozen; the kernel may well find nothing to push out (EAGAIN)."""
    scope = server.scope(await running(server))
    inside = "nsenter --mount --target $(systemctl show --property MainPID --value launchpad-helper) sh -c"
    said = server.machine.run(f"{inside} 'echo 1M >{scope}/memory.reclaim'", ok=False)
    assert "Read-only" not in said, said
    said = server.machine.run(f"{inside} 'echo 1000 >/sys/fs/cgroup/user.slice/pids.max'", ok=False)
    assert "Read-only file system" in said, said


async def running(server: Server) -> str:
    (instance,) = [each for each in (await server.http.get("/api/v1/instances")).json() if each["state"] == "running"]
    instance_id: str = instance["id"]
    return instance_id

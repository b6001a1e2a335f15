"""What the engine is asked to make, and how its answers are read."""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from launchpad.domain.instances import Address
from launchpad.runtime.base import BindMount, ContainerSpec, ContainerState, HostFacts
from launchpad.runtime.engine_spec import (
    DEFAULT_PATH,
    LOG_TAIL_CHARACTERS,
    container_of,
    create_body,
    host_of,
    instant,
    is_published,
    listed_container,
    log_text,
    number_of_ports,
    path_of,
    process_of,
    reference_parts,
)
from launchpad.settings import EngineSettings

GB = 1024**3


def body(settings: EngineSettings | None = None, **values: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "instance_id": "0123456789abcdef",
        "owner_id": "owner",
        "environment": "rstudio",
        "image": "example/rstudio:1",
        "network_port": 8787,
        "memory_bytes": 2 * GB,
        "cpus": 1.5,
        "pids_limit": 512,
    }
    return create_body(ContainerSpec(**(defaults | values)), settings or EngineSettings(), "d1")


def host(**values: Any) -> dict[str, Any]:
    found: dict[str, Any] = body(**values)["HostConfig"]
    return found


def test_what_is_not_granted_is_dropped() -> None:
    made = host(capabilities=("SETUID", "CHOWN"))
    assert made["CapDrop"] == ["ALL"]
    assert made["CapAdd"] == ["CHOWN", "SETUID"]
    assert made["SecurityOpt"] == ["no-new-privileges"]
    assert made["Privileged"] is False
    assert host()["CapAdd"] == []


def test_nothing_of_the_host_is_shared() -> None:
    """No namespace of the host's, no device, and directories only as mounts that must exist."""
    made = host(
        mounts=(BindMount(Path("/srv/homes/alice"), "/home/alice"), BindMount(Path("/srv/data"), "/data", True))
    )
    for name in ("PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode", "Devices", "Binds", "VolumesFrom"):
        assert name not in made
    assert made["Mounts"] == [
        {"Type": "bind", "Source": "/srv/homes/alice", "Target": "/home/alice", "ReadOnly": False},
        {"Type": "bind", "Source": "/srv/data", "Target": "/data", "ReadOnly": True},
    ]


def test_gpus_are_asked_for_by_number_or_by_id() -> None:
    """As `docker run --gpus` does; nobody gets one unasked."""
    assert "DeviceRequests" not in host()
    nvidia = {"Driver": "nvidia", "Capabilities": [["gpu"]]}
    assert host(gpus="all")["DeviceRequests"] == [nvidia | {"Count": -1}]
    assert host(gpus=2)["DeviceRequests"] == [nvidia | {"Count": 2}]
    assert host(gpus=("1", "GPU-3f2a"))["DeviceRequests"] == [nvidia | {"DeviceIDs": ["1", "GPU-3f2a"]}]


def test_limits() -> None:
    """Memory and swap have one cap; cores in billionths; shared memory is 64 MB at least."""
    made = host(shm_bytes=GB)
    assert made["Memory"] == made["MemorySwap"] == 2 * GB
    assert made["NanoCpus"] == 1_500_000_000
    assert made["PidsLimit"] == 512
    assert made["ShmSize"] == GB
    assert host()["ShmSize"] == host(shm_bytes=32 * 1024**2)["ShmSize"] == 64 * 1024**2
    assert made["Ulimits"] == [{"Name": "core", "Soft": 0, "Hard": 0}]


def test_the_port_is_published_on_loopback_only() -> None:
    made = body(settings=EngineSettings(port_range="25000-25009"))
    assert made["ExposedPorts"] == {"8787/tcp": {}}
    assert made["HostConfig"]["PortBindings"] == {"8787/tcp": [{"HostIp": "127.0.0.1", "HostPort": "25000-25009"}]}


def test_the_log_is_rotated() -> None:
    made = body(settings=EngineSettings.model_validate({"log_bytes": "1m"}))["HostConfig"]["LogConfig"]
    assert made == {"Type": "json-file", "Config": {"max-size": "1048576", "max-file": "2"}}


def test_the_engine_neither_restarts_nor_watches_nor_inits() -> None:
    """The platform says why an instance ended; images bring their own init."""
    made = body()
    assert made["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    assert made["HostConfig"]["Init"] is False
    assert made["Healthcheck"] == {"Test": ["NONE"]}


def test_the_images_own_settings_stay_where_nothing_is_said() -> None:
    made = body()
    assert not {"User", "Cmd", "Hostname"} & set(made)
    assert "Runtime" not in made["HostConfig"]
    named = body(
        settings=EngineSettings(oci_runtime="runsc"),
        user="200000:0",
        groups=("100",),
        command=("start", "--flag"),
        hostname="jupyterlab",
        env_vars={"A": "1", "B": "x=y"},
        stop_grace_seconds=30,
    )
    assert named["User"] == "200000:0"
    assert named["Cmd"] == ["start", "--flag"]
    assert named["Hostname"] == "jupyterlab"
    assert named["Env"] == ["A=1", "B=x=y"]
    assert named["StopTimeout"] == 30
    assert named["HostConfig"]["GroupAdd"] == ["100"]
    assert named["HostConfig"]["Runtime"] == "runsc"


def test_which_addresses_can_be_an_instances() -> None:
    settings = EngineSettings(port_range="25000-25009")
    assert is_published(settings, Address("127.0.0.1", 25000))
    assert is_published(settings, Address("127.0.0.1", 25009))
    for odd in (("127.0.0.1", 24999), ("127.0.0.1", 25010), ("192.0.2.1", 25000), ("127.0.0.1 or dst ::/0", 25000)):
        assert not is_published(settings, Address(*odd))


def test_an_address_may_be_another_machines() -> None:
    assert str(Address("192.0.2.7", 20000)) == "192.0.2.7:20000"
    assert str(Address("2001:db8::7", 20000)) == "[2001:db8::7]:20000"


def test_labels_say_whose_it_is() -> None:
    assert body()["Labels"] == {
        "org.launchpad.deployment": "d1",
        "org.launchpad.instance": "0123456789abcdef",
        "org.launchpad.owner": "owner",
        "org.launchpad.environment": "rstudio",
    }


def inspected(**state: Any) -> dict[str, Any]:
    """As the engine inspects; `state` is put over that of a running container."""
    return {
        "Config": {"Labels": body()["Labels"]},
        "State": {
            "Status": "running",
            "Running": True,
            "ExitCode": 0,
            "OOMKilled": False,
            "StartedAt": "2026-03-02T09:30:00.123456789Z",
        }
        | state,
        "NetworkSettings": {"Ports": {"22/tcp": None, "8787/tcp": [{"HostIp": "127.0.0.1", "HostPort": "20007"}]}},
    }


def test_a_running_container() -> None:
    found = container_of(inspected())
    assert (found.instance_id, found.owner_id, found.environment) == ("0123456789abcdef", "owner", "rstudio")
    assert found.state is ContainerState.RUNNING
    assert found.address == Address("127.0.0.1", 20007)
    assert found.exit_code is None
    assert found.started_at == datetime(2026, 3, 2, 9, 30, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("created", ContainerState.CREATED),
        ("running", ContainerState.RUNNING),
        ("paused", ContainerState.PAUSED),
        ("restarting", ContainerState.RUNNING),
        ("exited", ContainerState.EXITED),
        ("removing", ContainerState.EXITED),
        ("dead", ContainerState.EXITED),
    ],
)
def test_every_status_of_the_engine_is_one_of_ours(status: str, state: ContainerState) -> None:
    found = container_of(inspected(Status=status))
    assert found.state is state
    assert (found.address is not None) is state.is_up
    assert (found.exit_code is not None) is (state is ContainerState.EXITED)


def test_one_that_never_started_has_no_start() -> None:
    assert container_of(inspected(Status="created", StartedAt="0001-01-01T00:00:00Z")).started_at is None


def test_out_of_memory_is_the_end_only_of_what_ended_badly() -> None:
    """A child may have been killed for memory long before the application was shut down properly."""
    assert container_of(inspected(Status="exited", OOMKilled=True, ExitCode=137)).out_of_memory
    assert container_of(inspected(Status="exited", OOMKilled=True, ExitCode=1)).out_of_memory
    assert not container_of(inspected(Status="exited", OOMKilled=True, ExitCode=0)).out_of_memory
    assert not container_of(inspected(Status="exited", OOMKilled=False, ExitCode=137)).out_of_memory
    assert not container_of(inspected(Status="running", OOMKilled=True)).out_of_memory


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [("2026-03-02T09:30:00Z", 0), ("2026-03-02T09:30:00.5Z", 500_000), ("2026-03-02T09:30:00.123456789Z", 123_456)],
)
def test_instants_of_any_precision(text: str, microsecond: int) -> None:
    assert instant(text) == datetime(2026, 3, 2, 9, 30, 0, microsecond, tzinfo=UTC)


def frame(stream: int, text: bytes) -> bytes:
    return struct.pack(">BxxxI", stream, len(text)) + text


def test_output_and_error_output_become_one_text() -> None:
    assert log_text(frame(1, b"one\n") + frame(2, b"two \xff\n")) == "one\ntwo \ufffd\n"
    assert log_text(b"") == ""
    assert log_text(frame(1, b"whole\n") + frame(1, b"cut off")[:-4]) == "whole\ncut"


@pytest.mark.slow
def test_of_a_long_log_the_end_is_kept() -> None:
    text = log_text(b"".join(frame(1, b"%07d\n" % number) for number in range(200_000)))
    assert len(text) == LOG_TAIL_CHARACTERS
    assert text.endswith("0199999\n")


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("rocker/rstudio", ("rocker/rstudio", "latest")),
        ("rocker/rstudio:4.6.1", ("rocker/rstudio", "4.6.1")),
        ("hub.example.org:5000/a/b", ("hub.example.org:5000/a/b", "latest")),
        ("hub.example.org:5000/a/b:2", ("hub.example.org:5000/a/b", "2")),
        ("a/b@sha256:0123", ("a/b", "sha256:0123")),
    ],
)
def test_a_reference_always_has_a_tag(reference: str, parts: tuple[str, str]) -> None:
    """Asked to pull one without, the engine would fetch every tag that there is."""
    assert reference_parts(reference) == parts


def test_how_many_ports_a_range_has() -> None:
    assert number_of_ports("20000-29999") == 10_000
    assert number_of_ports("20000-20000") == 1
    assert number_of_ports("20000") == 1


def test_what_the_engine_says_of_its_host_and_what_it_leaves_out() -> None:
    info = {
        "NCPU": 4,
        "MemTotal": 8 * GB,
        "ServerVersion": "27.1.1",
        "CgroupVersion": "2",
        "CgroupDriver": "systemd",
        "MemoryLimit": True,
        "SwapLimit": False,
        "CpuCfsQuota": True,
        "PidsLimit": True,
        "LiveRestoreEnabled": False,
        "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"],
        "DockerRootDir": "/srv/docker",
    }
    facts = host_of(info)
    assert (facts.cgroup_version, facts.cgroup_driver, facts.root_dir) == ("2", "systemd", "/srv/docker")
    assert (facts.can_limit_memory, facts.can_limit_swap, facts.outlives_restart) == (True, False, False)
    assert facts.security == ("apparmor", "seccomp", "cgroupns")
    assert host_of({"NCPU": 1, "MemTotal": GB, "ServerVersion": "1"}) == HostFacts(1, GB, "1")


def test_a_line_of_the_list_says_where_it_is_reached_now() -> None:
    """Over what is known of it; a port for other machines, or none at all, is no address of ours."""
    known = container_of(inspected())
    line: dict[str, Any] = {"State": "running", "Ports": []}
    ports = [{"IP": "0.0.0.0", "PublicPort": 22}, {"PrivatePort": 8787}, {"IP": "127.0.0.1", "PublicPort": 20008}]
    assert listed_container(line | {"Ports": ports}, known) == replace(known, address=Address("127.0.0.1", 20008))
    assert listed_container(line, known) == replace(known, address=None)


def test_only_what_runs_has_a_process() -> None:
    assert process_of(inspected(Pid=4711)) == 4711
    assert process_of(inspected(Status="exited", Pid=0)) == 0
    assert process_of(inspected()) == 0


@pytest.mark.parametrize(
    ("image_path", "made"),
    [
        ("/opt/conda/bin:/usr/bin", "/home/a/.local/bin:/opt/conda/bin:/usr/bin"),
        ("/usr/bin:/home/a/.local/bin", "/home/a/.local/bin:/usr/bin"),
        ("", f"/home/a/.local/bin:{DEFAULT_PATH}"),
    ],
)
def test_a_folder_is_put_before_the_images_path(image_path: str, made: str) -> None:
    spec = ContainerSpec("i", "o", "e", "x", 1, GB, 1, 16, first_in_path="/home/a/.local/bin")
    assert create_body(spec, EngineSettings(), "d1", image_path)["Env"] == [f"PATH={made}"]


def test_a_path_that_the_environment_names_is_left_alone() -> None:
    assert body(first_in_path="/x", env_vars={"PATH": "/y"})["Env"] == ["PATH=/y"]
    assert body()["Env"] == []
    assert path_of(["A=1", "PATH=/y:/z", "MY_PATH=/n"]) == "/y:/z"
    assert path_of([]) == ""

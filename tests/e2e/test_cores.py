"""Programs in an instance find as many cores as its size has, and start no more threads than that."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from support.live import LivePlatform, StartPlatform, docker
from support.lookalikes import rocker

# What a program finds: with variables as an instance has them, and (`env -i`) with none.
FOUND = """
import json, os, subprocess
def ask(*command):
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
bare = {"PATH": os.environ["PATH"], "HOME": "/tmp"}
def ask_bare(*command):
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=bare).stdout.split()[-1])
import numpy
numpy.ones((400, 400)) @ numpy.ones((400, 400))
found = {
    "python": os.cpu_count(),
    "nproc": ask("nproc"),
    "getconf": ask_bare("getconf", "_NPROCESSORS_ONLN"),
    "R detectCores": ask_bare("Rscript", "-e", "cat(parallel::detectCores())"),
    "R mc.cores": ask("Rscript", "-e", "library(parallel); cat(getOption('mc.cores'))"),
    "threads of a product": len(os.listdir("/proc/self/task")),
}
print(json.dumps(found))
"""


async def inside(live: LivePlatform, instance_id: str, *command: str) -> str:
    container = live.container_of(instance_id)["Id"]
    return await asyncio.to_thread(docker, "exec", "-w", "/tmp", container, *command)


@pytest.mark.parametrize("cpus", [0.5, 1, 2])
async def test_programs_find_the_cores_of_the_size(start_platform: StartPlatform, cpus: float) -> None:
    """A cap on time alone lets programs start a thread for each core of the server, and they wait for each other."""
    live = await start_platform({"limits": {"cpus": [0.5, 1, 2], "default_cpus": 1}})
    wanted = min(max(1, round(cpus)), os.cpu_count() or 1)
    async with live.person("ida@example.org") as ida:
        instance = await ida.launch_and_wait("jupyterlab", cpus=cpus)
        found = json.loads((await inside(live, instance["id"], "python3", "-c", FOUND)).splitlines()[-1])
        assert found == dict.fromkeys(found, wanted)


async def test_r_in_rstudio_finds_them_too(start_platform: StartPlatform) -> None:
    """There R is started by a server that hands on no variable: rocker's init writes them to Renviron.site."""
    image = await asyncio.to_thread(rocker)
    live = await start_platform({"environments": [{"name": "rstudio", "image": image}]})
    async with live.person("ron@example.org") as ron:
        instance = await ron.launch_and_wait("rstudio", cpus=1)
        ask = "cat(parallel::detectCores(), Sys.getenv(c('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MC_CORES')))"
        assert await inside(live, instance["id"], "env", "-i", "/usr/bin/Rscript", "-e", ask) == "1 1 1 1"


async def test_the_whole_server_is_shown_where_the_settings_say_so(start_platform: StartPlatform) -> None:
    """For runtimes that do not take the mounts."""
    live = await start_platform({"engine": {"visible_cores": "all"}})
    async with live.person("ira@example.org") as ira:
        instance = await ira.launch_and_wait("jupyterlab", cpus=1)
        shown = await inside(live, instance["id"], "grep", "-c", "^processor", "/proc/cpuinfo")
        assert int(shown) == os.cpu_count()
        assert await inside(live, instance["id"], "printenv", "OMP_NUM_THREADS") == "1"

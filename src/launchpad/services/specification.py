"""From what a user launches to what a container is made of. Pure: the settings decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ..domain.environments import Environment, Placeholders, whole_cores
from ..runtime.base import BindMount, ContainerSpec
from ..settings import MountSettings
from ..settings.catalogue import shipped_env_vars
from .kit import Kit

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
SAFE_MODE = "LAUNCHPAD_SAFE_MODE"  # set to 1: nothing that the owner has installed is used
# Where programs keep what they have downloaded or built. Only set for a folder of the settings' choice: a variable wins
# over the users' own files, which therefore decide wherever nothing was chosen.
CACHE_VARIABLES = {"PIP_CACHE_DIR": "pip", "UV_CACHE_DIR": "uv", "CONDA_PKGS_DIRS": "conda", "RENV_PATHS_CACHE": "renv"}
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")


def specification(
    environment: Environment,
    values: Placeholders,
    *,
    instance_id: str,
    owner_id: str,
    image: str,
    memory_bytes: int,
    cpus: float,
    home: Path,
    shared: Sequence[MountSettings] = (),
    ca_bundle: Path | None = None,
    kit: Kit | None = None,
) -> ContainerSpec:
    """The container of an instance.

    Args:
        values: what the environment's templates are filled with; the size is added here.
        home: the owner's home on the server.
        shared: the shared directories that the owner gets.
        ca_bundle: CA certificates for the container; None: those of its image.
        kit: what instances get from the platform; None: nothing.

    Raises:
        StoreUnavailable: the kit cannot be written.
    """
    values = replace(values, cpus=whole_cores(cpus), memory_bytes=memory_bytes)
    user = values.fill(environment.user)
    by_root = user.partition(":")[0] in ("", "0", "root")
    env_vars = {name: values.fill(text) for name, text in variables_of(environment).items()}
    mounts = [BindMount(home, environment.home)]
    named_home = f"/home/{values.username}"
    cache = values.fill(environment.package_cache)
    writable = (environment.home, named_home, *(each.target for each in shared if each.mode == "rw"))
    if any(PurePosixPath(cache).is_relative_to(folder) for folder in writable):
        env_vars = {name: f"{cache}/{folder}" for name, folder in CACHE_VARIABLES.items()} | env_vars
    if named_home != environment.home:
        # The same files under the same path in every environment, so that a script may name /home/<username>.
        mounts.append(BindMount(home, named_home))
    mounts += [shared_mount(each) for each in shared]
    if ca_bundle is not None:
        mounts.append(BindMount(ca_bundle, CA_BUNDLE, read_only=True))
        env_vars = dict.fromkeys(CA_VARIABLES, CA_BUNDLE) | env_vars
    if kit is not None:
        mounts += kit.mounts(environment, cpus)
    return ContainerSpec(
        instance_id=instance_id,
        owner_id=owner_id,
        environment=environment.name,
        image=image,
        network_port=environment.port,
        memory_bytes=memory_bytes,
        cpus=cpus,
        pids_limit=environment.pids_limit,
        shm_bytes=memory_bytes * environment.shared_memory_percent // 100,
        user=user,
        groups=tuple(environment.groups),
        command=tuple(values.fill(word) for word in environment.command),
        env_vars=env_vars,
        capabilities=tuple(environment.capabilities),
        gpus=environment.gpus,
        mounts=tuple(mounts),
        hostname=environment.name,
        # Before the image's own programs, but never for an init that runs as root: the owner can write there.
        first_in_path="" if by_root or env_vars.get(SAFE_MODE) == "1" else f"{environment.home}/.local/bin",
        stop_grace_seconds=environment.stop_grace_seconds,
    )


def variables_of(environment: Environment) -> Mapping[str, str]:
    """The templates of an environment's variables: those of every environment, and its own, which win.

    An own one that is empty takes away what every environment has.
    """
    common = shipped_env_vars()
    own = environment.env_vars
    return {name: text for name, text in (common | dict(own)).items() if text or name not in common}


def shared_mount(shared: MountSettings) -> BindMount:
    return BindMount(Path(shared.source), shared.target, read_only=shared.mode == "ro")

"""Builds from the settings what works without the platform: a runtime, the engine as root reaches it, and the helper.

Apart from `wiring`, so that the helper and the small commands load neither database nor pages: on a server that boots
everything starts at once.
"""

from __future__ import annotations

import os
from pathlib import Path

from .errors import SettingsError
from .helper.guard import Guard
from .helper.verbs import Verbs
from .helper_client import HelperClient
from .ops.certificates import site_certificates, write_bundle
from .runtime.base import Runtime
from .runtime.engine import EngineRuntime
from .runtime.fake import FakeRuntime
from .runtime.helper import HelperRuntime
from .services.catalogue import catalogue_of
from .services.images import ImageService
from .services.kit import Kit
from .settings import Settings
from .storage.choose import choose_driver
from .store.statedir import HelperState, StateDir


def helper_client_of(settings: Settings) -> HelperClient | None:
    """How this process asks the helper: where one is set, for everybody but root, who needs none."""
    if settings.helper.socket is None or os.geteuid() == 0:
        return None
    return HelperClient(Path(settings.helper.socket))


def runtime_of(settings: Settings, deployment_id: str, line: HelperClient | None = None) -> Runtime:
    """The runtime of the settings; with `line`, what the helper offers of it."""
    if settings.engine.runtime == "fake":
        return FakeRuntime(deployment_id)
    if settings.engine.runtime == "swarm":
        raise SettingsError("engine.runtime: “swarm” is not supported in this version; use “engine”.")
    if line is not None:
        return HelperRuntime(line)
    return EngineRuntime(settings.engine, deployment_id, settings.egress)


def engine_of(settings: Settings) -> EngineRuntime:
    """The engine as root reaches it, for what neither portal nor helper may do.

    Raises:
        StoreUnavailable: the deployment's id cannot be read.
    """
    if settings.helper.socket is None:
        deployment_id = StateDir(settings.state_dir).deployment_id
    else:
        deployment_id = HelperState(settings.helper.state_dir).deployment_id_of(settings.state_dir)
    return EngineRuntime(settings.engine, deployment_id, settings.egress)


def kit_of(settings: Settings) -> Kit:
    """What instances get from the platform; with a helper, where only root writes."""
    folder = settings.state_dir if settings.helper.socket is None else settings.helper.state_dir
    return Kit(folder, settings.dashboard_url, limit_cores=settings.engine.limits_visible_cores)


def build_helper(settings: Settings) -> Verbs:
    """The helper's parts, from the settings alone: of the portal it believes nothing.

    Raises:
        SettingsError: a driver that cannot be had on this machine, certificates that cannot be read.
        StoreUnavailable: its own state cannot be used, or the portal has none yet.
    """
    state = HelperState(settings.helper.state_dir)
    runtime = engine_of(settings)
    certificates = site_certificates(settings.images.extra_ca_certificates)
    bundle = write_bundle(state.path / "ca-bundle.crt", certificates)
    kit = kit_of(settings)
    kit.write()
    guard = Guard(
        settings, catalogue_of(settings), ImageService(runtime, settings.images, site_certificates), bundle, kit
    )
    return Verbs(runtime, choose_driver(settings.homes), guard)

"""Builds from the settings what works without the platform: the runtime's parts, the engine as root reaches it, and the
helper.

Apart from `wiring`, so that the helper and the small commands load neither database nor pages: on a server that boots
everything starts at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .domain.activity import WorkThresholds
from .errors import SettingsError
from .helper.guard import Guard
from .helper.verbs import Verbs, helper_verbs
from .helper_client import HelperClient
from .ops.certificates import site_certificates, write_bundle
from .runtime.base import ConnectionCutter, Engine, Images, Launches, Runtime
from .runtime.cutting import KernelCutter
from .runtime.engine import EngineRuntime
from .runtime.fake import FakeRuntime
from .runtime.helper import helper_cutter, helper_launches, helper_runtime
from .services.catalogue import catalogue_of
from .services.composer import Composer
from .services.images import ImageService
from .services.kit import Kit
from .settings import Settings
from .storage.base import Homes
from .storage.choose import choose_archives, choose_driver, choose_snapshots
from .storage.files import DirectFiles, Files, HelperFiles
from .store.statedir import HelperState, StateDir


def helper_client_of(settings: Settings) -> HelperClient | None:
    """How this process asks the helper: where one is set, for everybody but root, who needs none."""
    if settings.helper.socket is None or os.geteuid() == 0:
        return None
    return HelperClient(Path(settings.helper.socket))


def runtime_of(settings: Settings, deployment_id: str) -> Engine:
    """The runtime of the settings, for a process that has a right to it.

    Raises:
        SettingsError: this version has no such runtime, or the settings do not say where it is.
    """
    if settings.engine.runtime == "fake":
        return FakeRuntime(deployment_id)
    if settings.engine.runtime == "kubernetes":
        raise SettingsError("engine.runtime: “kubernetes” is not supported in this version; use “engine”.")
    return EngineRuntime(settings.engine, deployment_id, settings.egress)


def cutter_of(engine: Engine) -> ConnectionCutter:
    """What closes connections to what `engine` runs, for a process that has a right to it."""
    return engine if isinstance(engine, FakeRuntime) else KernelCutter()


@dataclass(frozen=True)
class Reach:
    """The runtime's parts as this process reaches them: at hand, or through the helper."""

    runtime: Runtime
    launches: Launches
    cutter: ConnectionCutter
    images: ImageService


def reach_of(
    settings: Settings, deployment_id: str, homes: Homes, *, engine: Engine | None, helper: HelperClient | None
) -> Reach:
    """Through the helper where one is given; else `engine`, or that of the settings.

    Raises:
        SettingsError: there is no such runtime, or certificates cannot be read.
        StoreUnavailable: what instances get from the platform cannot be written.
    """
    if helper is not None:
        runtime = helper_runtime(helper)
        return Reach(runtime, helper_launches(helper), helper_cutter(helper), images_of(settings, runtime))
    engine = engine or runtime_of(settings, deployment_id)
    images = images_of(settings, engine)
    return Reach(engine, composer_of(settings, engine, images, homes), cutter_of(engine), images)


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


def images_of(settings: Settings, runtime: Images) -> ImageService:
    return ImageService(runtime, settings.images, site_certificates)


def composer_of(settings: Settings, engine: Engine, images: ImageService, homes: Homes) -> Composer:
    """What makes containers of orders.

    Raises:
        SettingsError: extra certificates that cannot be read.
        StoreUnavailable: the folder cannot be written.
    """
    certificates = site_certificates(settings.images.extra_ca_certificates)
    bundle = write_bundle(_own_folder(settings) / "ca-bundle.crt", certificates)
    return Composer(settings, catalogue_of(settings), images, engine, homes, bundle, kit_of(settings))


def kit_of(settings: Settings) -> Kit:
    """What instances get from the platform."""
    return Kit(_own_folder(settings), settings.dashboard_url, limit_cores=settings.engine.limits_visible_cores)


def _own_folder(settings: Settings) -> Path:
    """Of whoever composes containers: with a helper, where only root writes."""
    return settings.state_dir if settings.helper.socket is None else settings.helper.state_dir


def build_helper(settings: Settings) -> Verbs:
    """The helper's parts, from the settings alone: of the portal it believes nothing.

    Raises:
        SettingsError: a driver that cannot be had on this machine, certificates that cannot be read.
        StoreUnavailable: its own state cannot be used, or the portal has none yet.
    """
    engine, homes = engine_of(settings), choose_driver(settings.homes)
    composer = composer_of(settings, engine, images_of(settings, engine), homes)
    composer.write_kit()
    guard = Guard(
        settings, catalogue_of(settings), engine, composer, KernelCutter(), homes, choose_snapshots(settings, homes)
    )
    return helper_verbs(engine, guard, choose_archives(settings, homes))


def files_of(settings: Settings, helper: HelperClient | None) -> Files:
    """How this process reaches users' files: through the helper's workers where it has one, else with its own."""
    path = settings.helper.files_socket
    if helper is not None and path is not None:
        return HelperFiles(path, settings.files)
    return DirectFiles(settings.homes.root, settings.files)


def thresholds_of(settings: Settings) -> WorkThresholds:
    """From where on something is work."""
    activity = settings.activity
    return WorkThresholds(activity.work_cores, activity.work_disk, activity.work_network, activity.work_terminal_cores)

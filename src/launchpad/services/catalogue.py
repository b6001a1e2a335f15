"""The catalogue: the environments of the settings, as the domain sees them."""

from __future__ import annotations

from ..domain.activity import PersonRules
from ..domain.environments import Environment
from ..settings import EnvironmentSettings, Settings


def catalogue_of(settings: Settings) -> dict[str, Environment]:
    """The environments that are offered, by name."""
    return {entry.name: environment_of(entry) for entry in settings.environments if entry.enabled}


def environment_of(settings: EnvironmentSettings) -> Environment:
    """The domain's view of one entry of the catalogue; its offer is asked of `OfferService`."""
    return Environment(
        name=settings.name,
        title=settings.title,
        description=settings.description,
        image=settings.image,
        build=settings.build,
        port=settings.port,
        home=settings.home,
        prefix=settings.prefix,
        health_path=settings.health_path,
        start_path=settings.start_path,
        bookmark_paths=settings.bookmark_paths,
        user=settings.user,
        groups=settings.groups,
        command=settings.command,
        env_vars=settings.env_vars,
        request_headers=settings.request_headers,
        capabilities=settings.capabilities,
        python_prefixes=settings.python_prefixes,
        package_cache=settings.package_cache,
        gpus=settings.gpus,
        pids_limit=settings.pids_limit,
        shared_memory_percent=settings.shared_memory_percent,
        stop_grace_seconds=settings.stop_grace_seconds,
        start_timeout_seconds=settings.start_timeout_seconds,
        failure_patterns=settings.failure_patterns,
        safe_mode_env_vars=settings.safe_mode.env_vars,
        safe_mode_command=settings.safe_mode.command if settings.command else (),
        calls_when_ended=settings.calls_when_ended,
        person=PersonRules(settings.person.requests, settings.person.quiet_header or ""),
        messages_thaw=settings.messages_thaw,
    )

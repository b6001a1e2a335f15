"""What FastAPI takes of its own OpenTelemetry: nothing is traced, counted or told (see `light.py`).

The portal has its own metrics and log, and no page may tell another server about its visitors.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

TelemetryConfig = dict[str, Any]
TelemetryData = dict[str, Any]
_NOTHING = nullcontext()


class NativeTelemetry:
    def __init__(self, _config: TelemetryConfig) -> None: ...

    def enabled(self) -> bool:
        """FastAPI asks at each request, and goes on without it."""
        return False


class ExceptionTelemetryMiddleware:
    """FastAPI puts it among its middleware; it is the application itself."""

    def __new__(cls, app: Any) -> Any:
        return app


async def lifespan(*, config: TelemetryConfig, app: Any, scope: Any, receive: Any, send: Any) -> None:
    await app(scope, receive, send)


def get_telemetry_data() -> None: ...


def _operation(**_what: Any) -> AbstractContextManager[None]:
    return _NOTHING


def _run_sync_endpoint(*, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return function(**arguments)


def _ignore(*_what: Any, **_named: Any) -> None: ...


_route_selected = _validation_failed = _legacy_otel = _ignore

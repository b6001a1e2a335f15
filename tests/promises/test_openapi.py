"""What the OpenAPI document says is what the API does: no fault of ours, no answer that is not in it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Thread
from typing import Any

import httpx
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from launchpad.domain.instances import State
from launchpad.services.logins import Client
from launchpad.web.app import create_app
from support.platforms import World, launch, reaches
from support.ports import free_ports

EXAMPLES = 12  # of each call, for each visitor
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# What they end is what the next example needs; they are tried at the end, and in tests of their own.
ENDS_THE_LOGIN = ("/api/v1/sign-out", "/api/v1/sign-out-everywhere")


@dataclass(frozen=True)
class Served:
    url: str
    headers: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A portal over a fake engine, on a port, in a thread with a loop of its own."""
    port = free_ports(1)[0]
    folder = tmp_path_factory.mktemp("openapi")
    headers: dict[str, dict[str, str]] = {"nobody": {}}
    loop = asyncio.new_event_loop()
    server: uvicorn.Server | None = None

    async def serve() -> None:
        nonlocal server
        world = World(folder, {"public_url": f"http://127.0.0.1:{port}", **MANY})
        platform = await world.open()
        for name, address in (("user", "user@example.org"), ("admin", "admin@example.org")):
            here = Client("192.0.2.1")
            asked = await platform.sign_in.ask(address, here, platform.now())
            await platform.mail.drain()
            code = world.letters.codes(address)[-1]
            signed_in = await platform.sign_in.verify(asked.cookie, code, True, here, platform.now())
            headers[name] = {
                "Cookie": f"lp_login={signed_in.secret}",
                "X-CSRF-Token": platform.logins.csrf_token(signed_in.login),
            }
            await reaches(platform, (await launch(platform, signed_in.user)).id, State.RUNNING)
        server = uvicorn.Server(uvicorn.Config(create_app(platform), port=port, log_level="error", lifespan="off"))
        await server.serve()
        await world.close()

    thread = Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    for _ in range(400):
        try:
            if httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=60).status_code == 200:
                break
        except httpx.HTTPError:
            thread.join(0.05)
    else:
        raise AssertionError("the portal does not answer")
    yield Served(f"http://127.0.0.1:{port}", headers)
    assert server is not None
    server.should_exit = True
    thread.join(20)
    loop.close()


MANY = {
    "sign_in": {
        "sends_per_hour_per_client": 100_000,
        "sends_per_hour_per_address": 100_000,
        "sends_per_day_per_address": 100_000,
        "failures_per_hour_per_client": 100_000,
    }
}


@pytest.mark.parametrize("visitor", ["nobody", "user", "admin"])
def test_no_fault_and_no_answer_that_the_document_does_not_have(served: Served, visitor: str) -> None:
    schema = schemathesis.openapi.from_url(f"{served.url}/api/v1/openapi.json")
    problems: list[str] = []
    answers: Counter[int] = Counter()
    operations = [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]
    assert len(operations) > 25
    for operation in operations:
        if operation.path in ENDS_THE_LOGIN or operation.path.endswith("/events"):
            continue

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def call(case: schemathesis.Case[Any]) -> None:
            answer = case.call_and_validate(
                base_url=served.url, headers=served.headers[visitor], checks=CHECKS, timeout=60
            )
            answers[answer.status_code] += 1

        try:
            call()
        except Exception as error:  # noqa: BLE001 - every kind of finding is collected
            problems.append(f"{operation.method.upper()} {operation.path} as {visitor}: {error}")
    assert sum(answers.values()) > 100, answers
    assert visitor == "nobody" or answers[200] > 10, "not only refusals were looked at"
    assert not problems, "\n\n".join(problems)

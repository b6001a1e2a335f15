"""Images made FROM ours, on a real engine: they inherit labels, and take nobody's place."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator

import pytest

from launchpad.ops.certificates import site_certificates
from launchpad.runtime.engine import EngineRuntime
from launchpad.services.catalogue import environment_of
from launchpad.services.images import ImageService
from launchpad.settings import EngineSettings, EnvironmentSettings, ImageSettings
from support.live import built_image, docker


@pytest.fixture(params=["institute/special:{}", "launchpad/jupyterlab:{}"])
def derived(request: pytest.FixtureRequest) -> Iterator[str]:
    """A newer image made FROM the built one."""
    tag = str(request.param).format(secrets.token_hex(4))
    text = f"FROM {built_image('jupyterlab')}\nENV MARK={secrets.token_hex(8)}\n"
    subprocess.run(["docker", "build", "-q", "-t", tag, "-"], input=text.encode(), check=True, capture_output=True)
    yield tag
    docker("rmi", "-f", tag)


async def test_a_derived_image_is_not_launched_unasked(derived: str) -> None:
    labels = docker("inspect", "-f", "{{json .Config.Labels}}", derived)
    assert "org.launchpad.recipe-hash" in labels, "the test shows something only where labels are inherited"
    table = {"name": "x", "title": "X", "image": "launchpad-test/none:1", "build": "jupyterlab", "port": 80}
    engine = EngineRuntime(EngineSettings(), "test-derived")
    try:
        environment = environment_of(EnvironmentSettings.model_validate(table | {"home": "/home/x"}))
        found = await ImageService(engine, ImageSettings(), site_certificates).resolve(environment)
        assert found.reference == built_image("jupyterlab")
        asked = environment_of(EnvironmentSettings.model_validate(table | {"home": "/home/x", "image": derived}))
        assert (await ImageService(engine, ImageSettings(), site_certificates).resolve(asked)).reference == derived, (
            "asked for, it is"
        )
    finally:
        await engine.aclose()

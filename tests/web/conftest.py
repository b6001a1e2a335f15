"""Stages of nginx that several files use, a new one for each file; which file wants another one says so itself."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.certificates import certificate
from web.nginx_stub import LAB, RUN, Stage, free_port, stage


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running() -> AsyncIterator[Stage]:
    """The two origins are two ports."""
    async with stage() as here:
        yield here


@pytest.fixture
def here(running: Stage) -> Stage:
    """`running`, as at its start."""
    running.reset()
    return running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def secure() -> AsyncIterator[Stage]:
    """The two origins are two names on one port, over https."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        chain, key = certificate(Path(name), LAB, RUN)
        urls = {"public_url": f"https://{LAB}:{port}", "instances_url": f"https://{RUN}:{port}"}
        async with stage(**urls, tls={"certificate": chain, "key": key}) as here:
            here.tls = ssl.create_default_context(cafile=chain)
            yield here


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: a socket's may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="lp-") as name:
        yield Path(name)

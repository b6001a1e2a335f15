"""Servers of a few lines that do not keep to the script."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod


class Talker(ABC):
    """What a test hands to `asyncio.start_server`; a client that goes away is no error."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except ConnectionError:
            pass  # the client had enough
        finally:
            writer.close()

    @abstractmethod
    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...

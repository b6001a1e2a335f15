"""Mails in the outbox go after a week, by a loop of the platform, and nothing else in that folder does."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from launchpad.mail.outbox import KEPT, Outbox
from launchpad.services.background import Background
from support.platforms import START, World, until


def put(folder: Path, name: str, at: datetime) -> Path:
    path = folder / name
    path.write_text("x")
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


async def test_what_is_older_goes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    folder.mkdir()
    old, new = START - KEPT - timedelta(seconds=1), START - KEPT + timedelta(seconds=1)
    gone = [
        put(folder, "20260201T093000.123456-0123abcd.eml", old),
        put(folder, ".20260201T093000.123456-0123abcd.eml", old),
        put(folder, ".probe-0123abcd", old),
    ]
    elsewhere = put(tmp_path, "elsewhere", old)
    link = folder / "20260201T093000.123456-ffffffff.eml"
    link.symlink_to(elsewhere)
    (folder / "20260201T093000.123456-eeeeeeee.eml").mkdir()
    stays = [
        put(folder, "20260228T093000.123456-0123abcd.eml", new),
        put(folder, "notes.eml", old),
        put(folder, "20260201T093000.123456-0123abcd.eml.txt", old),
        elsewhere,
        link,
    ]
    assert await Outbox(folder).prune(START - KEPT) == len(gone)
    assert not [path for path in gone if path.exists()]
    assert all(path.exists() for path in stays)
    assert await Outbox(tmp_path / "missing").prune(START) == 0


async def test_the_platform_does_so_with_or_without_a_mail_server(tmp_path: Path) -> None:
    """Also where a server is set by now, and the outbox is from before."""
    for number, mail in enumerate(({}, {"mail": {"host": "mail.example.org"}})):
        (tmp_path / str(number)).mkdir()
        world = World(tmp_path / str(number), mail)
        try:
            platform = await world.open(mail=False)
            old = put(platform.state.outbox, "20260201T093000.123456-0123abcd.eml", START - timedelta(days=8))
            new = put(platform.state.outbox, "20260301T093000.123456-0123abcd.eml", START - timedelta(days=6))
            background: Background = world.run(
                platform, next(loop for loop in platform.background.loops if loop.name == "outbox")
            )

            async def looked(background: Background = background) -> bool:
                return background.health()[0].last_success_at is not None

            await until(looked)
            assert (old.exists(), new.exists()) == (False, True)
        finally:
            await world.close()

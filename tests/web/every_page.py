"""Every page a person can see, of a portal in which things have happened: for what all of them have to keep."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, replace
from datetime import timedelta

from launchpad.domain.instances import Instance
from launchpad.domain.leaving import HomeWork, WorkKind, WorkState
from launchpad.domain.mail import FailureKind
from launchpad.domain.policy import EVERYONE, IdleAction, IdleRule, Scope
from launchpad.domain.usage import ContainerActivity, Usage
from launchpad.domain.users import User
from launchpad.services.audit import CLI, Actor
from launchpad.services.extension_links import Link
from launchpad.services.share_reading import new_secret
from launchpad.services.users import UserChange
from launchpad.store import home_archives, home_history, home_use, home_work, kv
from launchpad.web.views.shares import link_path
from support.homes import archive_row

from .pages_client import ADMIN, Person, Portal

MB = 1024**2
LONG = "bartholomew.featherstonehaugh@computational-mathematics.research.example.org"


@dataclass(frozen=True)
class Place:
    """A page by what it shows, and who looks at it (None: somebody who is not signed in)."""

    name: str
    path: str
    who: Person | None


async def fill(portal: Portal) -> list[Place]:
    """Lets things happen, and names the pages: with something running, starting, stopped and failed on them."""
    platform = portal.platform
    portal.homes.used_bytes, portal.homes.limit_bytes = 38 * 1024**3, 41 * 1024**3
    admin, ada, bob = [await portal.signed_in(address) for address in (ADMIN, "ada.lovelace@example.org", LONG)]
    stopped = await ada.running("rstudio")
    await platform.instances.stop_any(stopped.id, CLI, platform.now())
    await platform.runner.wait()
    failed = await ada.running("rstudio")
    await portal.runtime.kill(failed.id, out_of_memory=True)
    await platform.runner.reconcile_one(failed.id)
    await platform.runner.wait()
    kept = await ada.running("jupyterlab")
    await bob.running("rstudio")
    user, other = await platform.users.by_email(ada.address), await platform.users.by_email(bob.address)
    await platform.tokens.create(user, "nightly report", CLI, platform.now())
    await platform.mail_failures.note(
        "nobody@example.org", FailureKind.BOUNCED, "5.1.1", platform.now() - timedelta(hours=2)
    )
    await platform.announcements.announce(
        "New disks", CLI, platform.now(), stop_instances_at=platform.now() + timedelta(days=3)
    )
    for scope in (EVERYONE, Scope(lab="Genomics"), Scope(environment="rstudio", user=LONG)):
        await platform.idle_policy.set_rule(scope, IdleRule(IdleAction.STOP, 240), CLI, platform.now())
    portal.runtime.activities[kept.id] = ContainerActivity(Usage(100 * MB, 5.0, 7), 300 * MB)
    await platform.activity.sample(platform.now())
    await platform.idle.tend(platform.now())
    await platform.keeping.keep(kept, 8, CLI, platform.now())
    ends = (await ada.instances())[0]
    link = platform.extensions._links.url(Link(ends.id, ends.expires_at)).removeprefix(platform.settings.public_url)
    for _ in range(3):
        await admin.get(f"/admin/instances/{kept.id}/log")
    await admin.get("/admin/instances")
    await _grow(portal, user, 12 * 1024**3)
    await _lab(portal, user, other, await platform.users.by_email(admin.address))
    gone = await _leave(portal)
    portal.runtime.hold_starts()
    starting = await _starting(portal, bob)
    then = await _fill_home(portal, ada)
    given = await _shared(portal, ada, bob)
    secret = new_secret()
    made = await platform.shares.share(
        user, "projects", [], lab=None, days=7, actor=CLI, now=platform.now(), secret=secret
    )
    by_link = link_path(made.id, secret)
    async with platform.database.transaction() as db:
        versions = {"R": ["4.2", "4.6"], "Python": ["3.13"]}
        await kv.put(db, "image_languages", {kept.environment: versions}, platform.now())
    await platform.libraries.run(platform.now())
    return [
        Place("start page", "/", None),
        Place("sign-in", "/sign-in", None),
        Place("extension", link, None),
        Place("dashboard", "/dashboard", ada),
        Place("dashboard with a launch", "/dashboard", bob),
        Place("empty dashboard", "/dashboard", admin),
        Place("account", "/account", ada),
        Place("access ledger", "/account/ledger?everyone=true", ada),
        Place("empty access ledger", "/account/ledger", bob),
        Place("starting", f"/instances/{starting.id}/open", bob),
        Place("stopped", f"/instances/{stopped.id}/open", ada),
        Place("offer to launch", "/go/rstudio/file.R?x=1", ada),
        Place("failed", f"/instances/{failed.id}/open", ada),
        Place("log", f"/instances/{failed.id}/log", ada),
        Place("files", "/files", ada),
        Place("an empty folder", "/files?path=projects/empty", ada),
        Place("rows", "/files/item?path=measurements-of-march.csv", ada),
        Place("notebook", "/files/item?path=analysis.ipynb", ada),
        Place("folder", "/files/item?path=projects", ada),
        Place("files of the past", f"/files?path=projects&snapshot={then}", ada),
        Place("a folder that did not exist then", f"/files?path=later&snapshot={then}", ada),
        Place("file of the past", f"/files/item?path=measurements-of-march.csv&snapshot={then}", ada),
        Place("what takes the space", "/files/space", ada),
        Place("shared", "/shared", ada),
        Place("shared with nobody", "/shared", admin),
        Place("shared folder", f"/shared/{given}", ada),
        Place("shared by a link", by_link, None),
        Place("shared file", f"/shared/{given}?path=notes.txt", ada),
        Place("trash", "/files/trash", ada),
        Place("labs", "/labs", ada),
        Place("no labs", "/labs", bob),
        Place("lab of a lead", "/labs/biology", ada),
        Place("lab of a member", "/labs/genomics", ada),
        Place("not found", "/nowhere", ada),
        Place("not allowed", "/admin", ada),
        Place("confirmation", "/confirm", admin),
        Place("overview", "/admin", admin),
        Place("users", "/admin/users", admin),
        Place("user", f"/admin/users/{other.id}", admin),
        Place("user who leaves", f"/admin/users/{gone.id}", admin),
        Place("instances", "/admin/instances?state=all", admin),
        Place("all labs", "/admin/labs", admin),
        Place("lab for an administrator", "/labs/biology", admin),
        Place("storage", "/admin/storage", admin),
        Place("storage, found", "/admin/storage?q=ada&sort=month", admin),
        Place("log of a person", f"/admin/instances/{failed.id}/log", admin),
        Place("limits", "/admin/limits", admin),
        Place("idle policy", "/admin/policies", admin),
        Place("log with a decision", f"/instances/{kept.id}/log", ada),
        Place("mail", "/admin/mail", admin),
        Place("announcements", "/admin/announcements", admin),
        Place("policy replay", "/admin/policies/replay?idle=4h&days=30", admin),
        Place("audit", "/admin/audit", admin),
    ]


async def _lab(portal: Portal, lead: User, asking: User, member: User) -> None:
    """Two labs, one of which somebody leads; there is another member, and somebody with a long address asks to join."""
    labs, now = portal.platform.labs, portal.platform.now()
    for name in ("biology", "genomics"):
        await labs.make(name, f"Lab of computational and experimental {name}", CLI, now)
        access = await labs.access(lead, name, as_admin=True)
        await labs.put(access, lead.email, CLI, now, is_lead=name == "biology")
        if name == "biology":
            await labs.put(access, member.email, CLI, now)
    await labs.ask(asking, "biology", Actor.of(asking, "192.0.2.1"), now)


async def _leave(portal: Portal) -> User:
    """Somebody whom an administrator removed, with an archive, and work that was done, failed and goes on."""
    platform, now = portal.platform, portal.platform.now()
    await portal.signed_in("carl.friedrich@example.org")
    user = await platform.users.by_email("carl.friedrich@example.org")
    await platform.leaving.remove(user, None, "moved to another institute", CLI, now)
    user = await platform.users.get(user.id)
    async with platform.database.transaction() as db:
        await home_archives.add(db, archive_row(user.id, user.username, user.uid, now))
        for number, state in enumerate((WorkState.DONE, WorkState.FAILED, WorkState.RUNNING)):
            work = HomeWork(f"work{number}", WorkKind.ARCHIVE, user.id, now, "admin@example.org")
            await home_work.add(db, replace(work, state=state, stage="archiving", files=12_345, detail="On disk."))
    return user


async def _grow(portal: Portal, user: User, grown_bytes: int) -> None:
    """A home that grows steadily, in a lab, as it was measured."""
    platform, now = portal.platform, portal.platform.now()
    await platform.users.change(user.id, UserChange(lab="Computational Mathematics"), CLI, now)
    used = portal.homes.used_bytes or 0
    async with platform.database.transaction() as db:
        for days, share in ((8, 0.25), (31, 1.0)):
            points = {user.id: used - round(share * grown_bytes), home_use.DISK: 900 * 1024**3}
            await home_history.put(db, (now - timedelta(days=days)).date(), points)
    portal.homes.used_bytes = used + 1024**3  # else nothing is new since the last look
    await portal.measure_homes()


PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CELLS = [
    {"cell_type": "markdown", "source": "# Analysis\nOf the measurements of March."},
    {
        "cell_type": "code",
        "execution_count": 1,
        "source": "import pandas as pd\npd.read_csv('measurements-of-march.csv').describe()",
        "outputs": [
            {"output_type": "stream", "name": "stdout", "text": "count 120"},
            {"output_type": "display_data", "data": {"image/png": base64.b64encode(PNG).decode()}},
            {"output_type": "error", "traceback": ["\x1b[31mKeyError\x1b[0m: 'x'"]},
        ],
    },
]


async def _fill_home(portal: Portal, person: Person) -> str:
    """Files of many kinds, hostile names among them, and something in the Trash; the name of a snapshot of it."""
    await person.get("/files")
    user = await portal.platform.users.by_email(person.address)
    home = portal.homes.path_of(user.username)
    contents = {
        "notes.txt": b"Remember the milk.\n",
        "measurements-of-march.csv": b"time,value\n" + b"1,2\n" * 30,
        "analysis.ipynb": json.dumps({"cells": CELLS, "metadata": {"kernelspec": {"language": "python"}}}).encode(),
        "plot.png": PNG,
        "old results.zip": b"x" * 90_000,
        "projects/genomics/reads.fastq": b"x" * 700_000,
        "projects/thesis/" + "a-very-long-name-without-any-blank-in-it" * 4 + ".tex": b"x" * 50_000,
        "two\nlines \u202etxt.gpj": b"x",
        "deleted.txt": b"x",
        "R/x86_64-pc-linux-gnu-library/4.2/moos/DESCRIPTION": b"Package: moos",
        ".local/lib/python3.9/site-packages/moos-1.dist-info/METADATA": b"Name: moos",
        ".cache/pip/wheel": b"x" * 300_000,
        ".cache/huggingface/hub/model": b"x" * 200_000,
    }
    for name, content in contents.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    (home / "projects/empty").mkdir()
    (home / "latest").symlink_to("projects/thesis")
    for path in (home, *home.rglob("*")):
        os.chown(path, user.uid, user.uid, follow_symlinks=False)
    await portal.platform.files.put_into_trash(user, "deleted.txt", portal.platform.now())
    taken = await portal.platform.snapshots.before_change(user)
    assert taken is not None
    return taken.name


async def _shared(portal: Portal, person: Person, other: Person) -> str:
    """Each shares something with the other, who has opened it; the id of what the person was given."""
    platform, now = portal.platform, portal.platform.now()
    people = [await platform.users.by_email(one.address) for one in (person, other)]
    home = portal.homes.path_of(people[1].username)
    (home / "for-all-of-us").mkdir(parents=True)
    (home / "for-all-of-us" / "notes.txt").write_bytes(b"Remember the milk.\n")
    for file in (home, *home.rglob("*")):
        os.chown(file, people[1].uid, people[1].uid, follow_symlinks=False)
    ids = []
    for owner, reader, path in ((people[0], people[1], "projects"), (people[1], people[0], "for-all-of-us")):
        named = [reader.email, "somebody-with-a-very-long-address@department.institute.example.org"]
        made = await platform.shares.share(owner, path, named, lab=None, days=7, actor=CLI, now=now)
        await platform.shares.note_opened(reader, made, now)
        ids.append(made.id)
    return ids[1]


async def _starting(portal: Portal, person: Person) -> Instance:
    page = await person.launch("jupyterlab")
    assert page.status == 200, page.words
    return next(one for one in await person.instances() if one.environment == "jupyterlab")

"""Backups: whole while the database is written to, closed to strangers, and worth something, which a drill shows."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import sqlite3
import stat
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pyrage
import pytest

from launchpad.errors import BackupUnusable, InvalidInput, MailUnavailable, SettingsError, StoreUnavailable
from launchpad.ops import backups
from launchpad.ops.drill import OLDEST, own_identity, rehearse
from launchpad.ops.held_files import HeldFile
from launchpad.platform import Platform
from launchpad.store import snapshot
from support.platforms import World, sign_in
from support.smtp import text_of

NOW = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
KEY = pyrage.x25519.Identity.generate()
SETTINGS = 'public_url = "https://lab.example.org"\ninstances_url = "https://run.example.org"\n'


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, {"backup": {"folder": str(tmp_path / "backups")}, "admin_emails": ["admin@a.org"]})
    yield world
    await world.close()


@pytest.fixture
async def platform(world: World) -> Platform:
    platform = await world.open()
    await sign_in(platform, "anna@a.org")
    await sign_in(platform, "admin@a.org")
    return platform


def folder_of(platform: Platform) -> Path:
    return platform.settings.backup.folder


def make(platform: Platform, *recipients: str, now: datetime = NOW) -> Path:
    settings = platform.state.path / "launchpad.toml"
    settings.write_text(SETTINGS)
    return backups.create(
        state_dir=platform.state.path,
        settings_file=settings,
        folder=folder_of(platform),
        recipients=recipients,
        own_identity=own_identity(platform.state),
        deployment_id=platform.state.deployment_id,
        now=now,
    )


def repacked(path: Path, target: Path, name: str, content: bytes) -> Path:
    """The backup with one file replaced, as damage or malice would."""
    packed = io.BytesIO()
    with tarfile.open(path) as source, tarfile.open(fileobj=packed, mode="w:gz") as changed:
        for member in source:
            held = source.extractfile(member)
            assert held is not None
            body = content if member.name == name else held.read()
            member.size = len(body)
            changed.addfile(member, io.BytesIO(body))
    target.write_bytes(packed.getvalue())
    return target


def contents(backup: backups.Backup) -> dict[str, bytes]:
    return {name: held.read() for name, held in backup.files.items()}


@pytest.mark.slow
async def test_an_encrypted_backup_holds_everything_and_opens_to_its_key_only(platform: Platform) -> None:
    made = make(platform, str(KEY.to_public()))
    assert made.read_bytes().startswith(b"age-encryption.org/")
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    found = backups.read(made, [str(KEY)])
    assert set(found.files) == {"launchpad.db", "secret.key", "deployment-id", "launchpad.toml"}
    assert found.files["secret.key"].read() == (platform.state.path / "secret.key").read_bytes()
    assert found.files["launchpad.toml"].read().decode() == SETTINGS
    assert (found.manifest.users, found.manifest.deployment_id) == (2, platform.state.deployment_id)
    with pytest.raises(BackupUnusable, match="--identity"):
        backups.read(made)
    with pytest.raises(BackupUnusable, match="cannot be decrypted"):
        backups.read(made, [str(pyrage.x25519.Identity.generate())])
    with pytest.raises(BackupUnusable, match="not a private key of age"):
        backups.read(made, ["AGE-SECRET-KEY-1NONE"])
    assert backups.read(made, [own_identity(platform.state)]).has_secrets, "the server itself can, for its drills"


BEYOND_MEMORY = """
import resource, sqlite3, sys
from datetime import UTC, datetime
from pathlib import Path
from launchpad.ops import backups

state, folder, key = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
now = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = in_use + 48 * 1024**2
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    bytearray(64 * 1024**2)
except MemoryError:
    pass
else:
    raise SystemExit("the limit does not hold")
public = str(backups.pyrage.x25519.Identity.from_str(key).to_public())
made = backups.create(
    state_dir=state, settings_file=None, folder=folder, recipients=[public], own_identity=key, deployment_id="d" * 8,
    now=now,
)
for said in backups.restore(backups.read(made, [key]), state / "restored", now):
    print(said)
"""


@pytest.mark.slow  # a large database
async def test_a_database_larger_than_the_memory_is_backed_up_and_restored(platform: Platform, tmp_path: Path) -> None:
    """96 MB that no compression makes smaller, by a process that may have 48 MB more than it begins with."""
    with closing(sqlite3.connect(platform.state.path / "launchpad.db")) as db, db:
        for n in range(96):
            db.execute("INSERT INTO kv VALUES (?, randomblob(1048576), '2026-03-02 03:00:00')", (f"large-{n}",))
    arguments = [str(platform.state.path), str(tmp_path / "backups"), str(KEY)]
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", BEYOND_MEMORY, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Restored 2 users" in done.stdout
    with closing(sqlite3.connect(platform.state.path / "restored" / "launchpad.db")) as db:
        assert db.execute("SELECT count(*), sum(length(value)) FROM kv WHERE key LIKE 'large-%'").fetchall() == [
            (96, 96 * 1024**2)
        ]


async def test_without_a_key_no_secret_leaves_the_server(platform: Platform) -> None:
    made = make(platform)
    found = backups.read(made)
    assert set(found.files) == {"launchpad.db", "deployment-id"}
    secret = (platform.state.path / "secret.key").read_bytes()
    assert secret not in gzip.decompress(made.read_bytes())


async def test_a_key_that_is_none_is_refused_before_anything_is_written(platform: Platform) -> None:
    with pytest.raises(InvalidInput, match=r"“age1nobody…” is not a public key of age"):
        make(platform, "age1nobody")
    assert not folder_of(platform).exists()


@pytest.mark.slow
async def test_f16_a_backup_under_write_load_is_of_one_instant(platform: Platform) -> None:
    """A writer adds rows in pairs; no backup ever has one without the other, and none waits for a pause."""
    stop = Event()
    pairs = 0

    def write() -> None:
        nonlocal pairs
        with closing(sqlite3.connect(platform.state.path / "launchpad.db", timeout=30)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            while not stop.is_set():
                with db:
                    for half in ("left", "right"):
                        row = (f"{half}-{pairs}", "x" * 4000, "2026-03-02 03:00:00.000000")
                        db.execute("INSERT INTO kv (key, value, changed_at) VALUES (?, ?, ?)", row)
                pairs += 1

    writer = Thread(target=write)
    writer.start()
    try:
        counted = []
        for minute in range(8):
            made = await asyncio.to_thread(make, platform, now=NOW + timedelta(minutes=minute))
            copy = platform.state.path / "copy.db"
            backups.read(made).files["launchpad.db"].write_to(copy)
            assert snapshot.revision_of(copy)  # integrity and foreign keys
            with closing(sqlite3.connect(copy)) as db:
                sides = dict(db.execute("SELECT substr(key, 1, 4), count(*) FROM kv GROUP BY 1"))
            assert sides.get("left", 0) == sides.get("righ", 0)
            counted.append(sides.get("left", 0))
    finally:
        stop.set()
        writer.join()
    assert len(set(counted)) > 1, "the writer wrote meanwhile"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: b"", "is not a backup"),
        (lambda content: b"not a backup", "is not a backup"),
        (lambda content: content[: len(content) // 2], "is not a backup|cannot be read"),
        (lambda content: content[:-200], "is not a backup|cannot be read"),
    ],
)
async def test_a_damaged_file_is_refused_with_words(
    platform: Platform, tmp_path: Path, damage: object, said: str
) -> None:
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(damage(make(platform).read_bytes()))  # type: ignore[operator]
    with pytest.raises(BackupUnusable, match=said):
        backups.read(broken)


@pytest.mark.slow
async def test_bytes_that_went_bad_anywhere_are_refused_with_words(platform: Platform, tmp_path: Path) -> None:
    """Unless nothing depends on them: some of tar's own say what nobody reads."""
    made, broken = make(platform), tmp_path / "broken.tar.gz"
    content, whole, refused = made.read_bytes(), contents(backups.read(made)), 0
    for place in range(20, len(content) - 20, max(1, len(content) // 300)):
        bad = bytes((content[place] ^ 0xFF, content[place + 1] ^ 0x55))
        broken.write_bytes(content[:place] + bad + content[place + 2 :])
        try:
            assert contents(backups.read(broken)) == whole
        except BackupUnusable:
            refused += 1
    assert refused > 250


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"digests": []}, "is not a backup"),
        ({"digests": {"launchpad.db": ["x"]}}, "is not a backup"),
        ({"revision": ["x"]}, "is not a backup"),
        ({"users": "many"}, "is not a backup"),
        ({"format": "2"}, "is not a backup"),
        ({"deployment_id": "zzzzzzzz"}, "names two deployments"),
        ({"format": 2, "digests": None, "another": "thing"}, "newer version"),
    ],
)
async def test_a_manifest_of_any_form_is_answered_with_words(
    platform: Platform, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    made = make(platform)
    with tarfile.open(made) as tar:
        held = tar.extractfile("manifest.json")
        assert held is not None
        manifest = json.loads(held.read()) | change
    with pytest.raises(BackupUnusable, match=said):
        backups.read(repacked(made, tmp_path / "x.tar.gz", "manifest.json", json.dumps(manifest).encode()))


async def test_a_manifest_without_end_or_a_file_without_a_place_is_refused(platform: Platform, tmp_path: Path) -> None:
    made = make(platform)
    with pytest.raises(BackupUnusable):
        backups.read(repacked(made, tmp_path / "deep.tar.gz", "manifest.json", b"[" * 100_000))
    huge = tarfile.TarInfo("launchpad.db")
    huge.size = 10**15
    claims = tmp_path / "huge.tar.gz"
    claims.write_bytes(gzip.compress(huge.tobuf() + b"x" * 10_000))
    with pytest.raises(BackupUnusable):
        backups.read(claims)


async def test_what_is_not_what_was_put_in_is_refused(platform: Platform, tmp_path: Path) -> None:
    made = make(platform)
    with pytest.raises(BackupUnusable, match=r"damaged: the content of launchpad\.db was changed"):
        backups.read(repacked(made, tmp_path / "other.tar.gz", "launchpad.db", b"other"))
    with tarfile.open(made) as tar:
        held = tar.extractfile("manifest.json")
        assert held is not None
        manifest = json.loads(held.read())
    newer = repacked(made, tmp_path / "f.tar.gz", "manifest.json", json.dumps({**manifest, "format": 2}).encode())
    with pytest.raises(BackupUnusable, match="newer version"):
        backups.read(newer)
    later = repacked(
        made, tmp_path / "r.tar.gz", "manifest.json", json.dumps({**manifest, "revision": "9999"}).encode()
    )
    with pytest.raises(BackupUnusable, match="newer version"):
        backups.restore(backups.read(later), tmp_path / "elsewhere", NOW)
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(BackupUnusable, match="cannot be read"):
        backups.read(tmp_path / "nothing")


async def test_f16_restored_nobody_is_signed_in_and_what_was_there_is_kept(platform: Platform, tmp_path: Path) -> None:
    found = backups.read(make(platform, str(KEY.to_public())), [str(KEY)])
    there = tmp_path / "elsewhere"
    there.mkdir()
    (there / "launchpad.db").write_bytes(b"before")
    (there / "secret.key").write_bytes(b"key before")
    said = backups.restore(found, there, NOW)
    assert any("Restored 2 users" in line for line in said)
    with closing(sqlite3.connect(there / "launchpad.db")) as db:
        assert db.execute("SELECT count(*) FROM users").fetchone() == (2,)
        for table in snapshot.WAYS_IN:
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    assert (there / "secret.key").read_bytes() == (platform.state.path / "secret.key").read_bytes()
    assert stat.S_IMODE((there / "secret.key").stat().st_mode) == 0o600
    kept = there / "before-restore-20260302T030000Z"
    assert (kept / "launchpad.db").read_bytes() == b"before"
    assert (kept / "secret.key").read_bytes() == b"key before"


async def test_old_backups_go_and_other_files_stay(platform: Platform) -> None:
    made = [make(platform, now=NOW + timedelta(days=day)) for day in range(4)]
    folder = folder_of(platform)
    others = [folder / "launchpad-zzzzzzzz-20200101T000000Z.tar.gz", folder / f"{made[0].name}.note"]
    for other in others:
        other.write_text("mine")
    assert backups.remove_old(folder, platform.state.deployment_id, keep=2, now=NOW + timedelta(days=3)) == 2
    assert {path.name for path in folder.iterdir()} == {path.name for path in (*made[2:], *others)}
    now = NOW + timedelta(days=4)
    assert backups.newest(folder, platform.state.deployment_id, now) == (made[3], NOW + timedelta(days=3))


async def test_backups_made_while_the_clock_was_wrong_neither_hide_nor_push_out_the_good_ones(
    platform: Platform,
) -> None:
    folder, ours = folder_of(platform), platform.state.deployment_id
    late = [make(platform, now=NOW + timedelta(days=3650 + day)) for day in range(2)]
    good = make(platform)
    assert backups.remove_old(folder, ours, keep=2, now=NOW) == 0
    assert backups.newest(folder, ours, NOW + timedelta(days=3)) == (good, NOW), "so its age is seen"
    early = make(platform, now=NOW - timedelta(days=3650))
    assert backups.remove_old(folder, ours, keep=1, now=NOW - timedelta(days=3650)) == 0, "it was just made"
    assert backups.remove_old(folder, ours, keep=1, now=NOW) == 1
    assert set(folder.iterdir()) == {*late, good}
    assert not early.exists()


async def test_a_drill_of_a_backup_from_the_future_fails(world: World, platform: Platform) -> None:
    """It would stay the newest for years, and hide that no other is made."""
    make(platform, now=NOW + timedelta(days=3650))
    report = await platform.drill.drill(NOW)
    assert not report.passed
    assert "in the future" in report.lines[0]
    (bad, *_) = [each for each in await platform.doctor.examine(NOW) if each.subject == "backups"]
    assert (str(bad.level), "in the future" in bad.text) == ("bad", True)


async def test_what_a_killed_backup_left_goes_and_two_at_once_wait_for_each_other(platform: Platform) -> None:
    folder, ours = folder_of(platform), platform.state.deployment_id
    for name in (f".launchpad-{ours}-x1", ".launchpad-zzzzzzzz-x2"):
        (folder / name).mkdir(parents=True)
        (folder / name / "launchpad.db").write_text("a copy in the clear")
    times = [NOW + timedelta(minutes=minute) for minute in range(4)]
    made = await asyncio.gather(*(asyncio.to_thread(make, platform, now=now) for now in times))
    assert {path.name for path in folder.iterdir()} == {*(path.name for path in made), ".launchpad-zzzzzzzz-x2"}
    assert [backups.read(path).manifest.users for path in made] == [2] * 4


async def test_a_folder_that_cannot_be_written_is_said_and_nothing_is_left(platform: Platform) -> None:
    folder_of(platform).parent.mkdir(parents=True, exist_ok=True)
    folder_of(platform).write_text("a file")
    with pytest.raises(StoreUnavailable, match="The backup cannot be written to"):
        make(platform)


async def test_the_drill_brings_the_newest_backup_back_and_tells_the_administrators(
    world: World, platform: Platform
) -> None:
    make(platform, str(KEY.to_public()))
    report = await platform.drill.drill(NOW + timedelta(hours=4))
    assert report.passed, report.lines
    (mail,) = [letter for letter in world.letters.sent if "drill" in str(letter["Subject"])]
    assert mail["To"] == "admin@a.org"
    assert "2 users" in text_of(mail)
    assert [record.action for record in await platform.audit.page(limit=1)] == ["backup.drill"]
    anchor = (await platform.audit_verifier.verify()).newest
    assert f"launchpad audit verify --anchor {anchor}" in " ".join(text_of(mail).split())
    assert list(platform.state.path.glob("*rehearsal*")) == []


async def test_a_drill_fails_without_a_backup_with_an_old_one_and_with_a_broken_one(
    world: World, platform: Platform
) -> None:
    async def failed(now: datetime) -> str:
        report = await platform.drill.drill(now)
        assert not report.passed
        assert "FAILED" in str(world.letters.sent[-1]["Subject"])
        return report.lines[0]

    assert "no backup" in await failed(NOW)
    made = make(platform, str(KEY.to_public()))
    assert "days old" in await failed(NOW + OLDEST + timedelta(hours=1))
    made.write_bytes(made.read_bytes()[:-100])
    assert "cannot be decrypted" in await failed(NOW)


async def test_a_backup_whose_settings_would_not_start_fails_its_rehearsal(platform: Platform) -> None:
    made = make(platform, str(KEY.to_public()))
    found = backups.read(made, [str(KEY)])
    bad = backups.Backup(found.manifest, {**found.files, "launchpad.toml": HeldFile(io.BytesIO(b'colour = "red"\n'))})
    with pytest.raises(SettingsError, match="there is no such setting"):
        await rehearse(bad, NOW)
    assert "2 users" in (await rehearse(found, NOW))[0]


async def test_a_rehearsal_without_room_fails_the_drill_and_administrators_hear(
    world: World, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(platform)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    report = await platform.drill.drill(NOW)
    assert not report.passed
    assert "not enough disk space to test a restore" in report.lines[0]
    assert "FAILED" in str(world.letters.sent[-1]["Subject"])


async def test_a_report_that_nobody_gets_is_an_error(world: World, platform: Platform) -> None:
    assert await platform.reports.send("hello", ["text"], NOW) == ["admin@a.org"]
    world.letters.refusing = MailUnavailable("The mail server did not accept the mail.")
    with pytest.raises(MailUnavailable, match="No administrator could be notified"):
        await platform.reports.send("hello", ["text"], NOW)


@pytest.mark.slow
async def test_the_doctor_says_what_backups_lack(world: World, platform: Platform) -> None:
    async def said(now: datetime) -> list[tuple[str, str]]:
        found = await platform.doctor.examine(now)
        return [(str(each.level), each.text) for each in found if each.subject == "backups"]

    assert "no backup" in (await said(NOW))[0][1]
    make(platform)
    (plain, never) = await said(NOW)
    assert ("not encrypted" in plain[1], "No restore has been tested yet" in never[1]) == (True, True)
    make(platform, str(KEY.to_public()), now=NOW + timedelta(minutes=1))
    await platform.drill.drill(NOW + timedelta(hours=1))
    assert [level for level, _ in await said(NOW + timedelta(hours=2))] == ["ok"]
    (old,) = await said(NOW + timedelta(days=3))
    assert old[0] == "bad"
    await platform.drill.drill(NOW + timedelta(days=4))
    assert [level for level, _ in await said(NOW + timedelta(days=4))] == ["bad", "bad"]

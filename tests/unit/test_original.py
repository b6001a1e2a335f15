"""The predecessor's database in every shape it had, and who its rows are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.original import OriginalUser, clean_lab, is_folder_name, people_of
from launchpad.errors import InvalidInput
from launchpad.store import original
from support.originals import SHAPES, original_database


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_read(tmp_path: Path, shape: str) -> None:
    """Names, labs, instants, administrators, and which containers run; the file stays as it is."""
    path = original_database(
        tmp_path / "db.sqlite3",
        [
            {"name": "admin@x.edu", "is_admin": True, "created_at": "2025-05-20 08:00:00.123456"},
            {"name": "Bo@x.edu", "lab_name": "Lab of B", "created_at": "2025-06-01 10:00:00+08:00"},
            {"name": "cy@x.edu", "created_at": "some day"},
        ],
        shape=shape,
        running=[(2, "rstudio-Bo-1234")],
    )
    before = path.read_bytes()
    admin, bo, cy = original.read(path)
    assert (admin.name, admin.is_admin, admin.running) == ("admin@x.edu", True, ())
    assert admin.created_at == datetime(2025, 5, 20, 8, 0, 0, 123456, tzinfo=UTC)
    assert (bo.name, bo.is_admin, bo.lab, bo.running) == ("Bo@x.edu", False, "Lab of B", ("rstudio-Bo-1234",))
    assert bo.created_at == datetime(2025, 6, 1, 2, tzinfo=UTC)
    assert cy.created_at is None
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["db.sqlite3"]


def test_a_later_version_leaves_the_lab_open(tmp_path: Path) -> None:
    path = original_database(tmp_path / "db", [{"name": "a@x.edu", "lab_name": None}], shape="with sizes")
    assert original.read(path)[0].lab is None


def test_both_columns_and_both_tables_of_instances(tmp_path: Path) -> None:
    """A site that was updated by hand."""
    path = original_database(tmp_path / "db", [{"name": "ann"}, {"name": "bo"}], running=[(1, "new-name")])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE users ADD COLUMN email TEXT")
        db.execute("UPDATE users SET email = 'ann.b@x.edu' WHERE username = 'ann'")
        db.execute("CREATE TABLE rstudio_instances (user_id INTEGER, container_name TEXT, status TEXT)")
        db.execute("INSERT INTO rstudio_instances VALUES (1, 'old-name', 'requested')")
    ann, bo = original.read(path)
    assert (ann.name, ann.email, ann.running) == ("ann", "ann.b@x.edu", ("new-name", "old-name"))
    assert (bo.name, bo.email) == ("bo", None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP TABLE users", "Missing: the table users."),
        ("ALTER TABLE users DROP COLUMN lab_name", "Missing: in the table users: lab_name."),
        ("ALTER TABLE users RENAME COLUMN username TO login", "Missing: in the table users: username or email."),
        ("DROP TABLE user_instances", "Missing: the table user_instances or rstudio_instances."),
        ("ALTER TABLE user_instances DROP COLUMN status", "Missing: in the table user_instances: status."),
    ],
)
def test_an_unknown_shape_is_refused_with_what_is_missing(tmp_path: Path, change: str, said: str) -> None:
    path = original_database(tmp_path / "db", [{"name": "a@x.edu"}])
    assert original.read(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(change)
    with pytest.raises(InvalidInput, match="is not the original platform's database") as refused:
        original.read(path)
    assert refused.value.detail.endswith(said)


def test_what_is_no_database_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="There is no file"):
        original.read(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "text").write_text("no database, only text " * 100)
    with pytest.raises(InvalidInput, match="cannot be read as an SQLite database"):
        original.read(tmp_path / "text")


# -- who they are ------------------------------------------------------------------------------------------------------


def user(name: str, email: str | None = None, **values: object) -> OriginalUser:
    return OriginalUser(name, email, **{"is_admin": False, "lab": None, "created_at": None, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "domain", "address"),
    [
        (user("Alice@X.edu"), None, "alice@x.edu"),
        (user("alice@x.edu", "other@x.edu"), "y.edu", "alice@x.edu"),
        (user("alice", "Alice.B@x.edu"), "y.edu", "alice.b@x.edu"),
        (user("Alice"), "x.edu", "alice@x.edu"),
        (user("alice", "nonsense"), "x.edu", "alice@x.edu"),
    ],
)
def test_the_address_is_the_name_or_the_column_or_made_of_the_domain(
    row: OriginalUser, domain: str | None, address: str
) -> None:
    people = people_of([row], domain=domain)
    assert [person.address for person in people.found] == [address]
    assert people.without_address == ()


def test_who_has_no_address_is_named_unless_left_out() -> None:
    rows = [user("admin"), user("a b@x.edu"), user("ann@x.edu")]
    assert people_of(rows).without_address == ("admin", "a b@x.edu")
    assert people_of(rows, domain="x.edu").without_address == ("a b@x.edu",)
    left = people_of(rows, skipped=["admin", "a b@x.edu"])
    assert (left.without_address, [person.address for person in left.found]) == ((), ["ann@x.edu"])


def test_one_local_part_at_two_domains_is_two_people_whose_folder_nobody_can_tell() -> None:
    """Unless the administrator says whose it is."""
    rows = [user("alice@nus.edu.sg"), user("alice@u.nus.edu"), user("bob@nus.edu.sg")]
    one, other, bob = people_of(rows).found
    assert [one.address, other.address] == ["alice@nus.edu.sg", "alice@u.nus.edu"]
    assert one.shared == other.shared == ("alice",)
    assert bob.shared == ()
    assert bob.folders == ("bob", "bob@nus.edu.sg")
    assigned = {"alice": ["alice@u.nus.edu"], "alice-old": ["alice@u.nus.edu"]}
    one, other, _ = people_of(rows, assigned=assigned).found
    assert (one.folders, one.shared) == (("alice@nus.edu.sg",), ())
    assert (other.folders, other.shared) == (("alice@u.nus.edu", "alice", "alice-old"), ())


def test_who_is_left_out_still_has_a_folder() -> None:
    """It is not the other's for that."""
    (one,) = people_of([user("alice@a.edu"), user("alice@b.edu")], skipped=["alice@b.edu"]).found
    assert one.shared == ("alice",)


def test_two_spellings_of_one_address_are_one_person() -> None:
    old, new = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC)
    rows = [
        user("Ann@x.edu", created_at=new, running=("c1",)),
        user("ann@x.edu", created_at=old, lab="B", is_admin=True, running=("c2",)),
    ]
    (ann,) = people_of(rows).found
    assert (ann.names, ann.lab, ann.was_admin, ann.created_at) == (("Ann@x.edu", "ann@x.edu"), "B", True, old)
    assert ann.running == ("c1", "c2")
    assert ann.folders == ("Ann", "Ann@x.edu", "ann", "ann@x.edu")
    assert ann.shared == ()


def test_no_name_leads_out_of_user_data() -> None:
    (one,) = people_of([user("../etc", "a@x.edu"), user("..", "a@x.edu"), user("", "a@x.edu")]).found
    assert one.folders == ("a", "a@x.edu")


@given(st.text())
def test_a_folders_name_is_one_name(name: str) -> None:
    if is_folder_name(name):
        assert Path("/x", name).parent == Path("/x")


@pytest.mark.parametrize(
    ("lab", "clean"), [(None, None), ("  ", None), (" Lab\n of\tA ", "Lab of A"), ("x" * 200, "x" * 100)]
)
def test_labs_are_one_printable_line(lab: str | None, clean: str | None) -> None:
    assert clean_lab(lab) == clean

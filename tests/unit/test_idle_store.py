"""What the store keeps of the idle policy: rules, watches, decisions and until when owners keep instances."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from launchpad.domain.idle_decisions import IdleDecision
from launchpad.domain.policy import EVERYONE, IdleAction, IdlePolicy, IdleRule, Scope, Verdict, Why
from launchpad.domain.policy_codec import policy_of, policy_table, scope_of
from launchpad.store import idle_decisions, idle_watches
from launchpad.store.database import Database
from launchpad.store.idle_watches import Watch
from support.databases import on_every_database

AT = datetime(2026, 3, 2, 18, 0, tzinfo=UTC)
STOP, FREEZE = IdleRule(IdleAction.STOP, 240), IdleRule(IdleAction.FREEZE, 90)
ONE = IdleDecision(
    instance_id="a" * 16,
    owner_id="o" * 16,
    environment="rstudio",
    at=AT,
    verdict=Verdict.STOP,
    why=Why.IDLE,
    rule=STOP.in_words,
    evidence="no person and no work",
    idle_since=AT - timedelta(hours=4),
)


def test_a_policy_is_the_same_as_a_table_and_back() -> None:
    rules = {
        Scope(environment="rstudio"): FREEZE,
        Scope(lab="Genomics", environment="rstudio"): IdleRule(),
        Scope(user="ada@example.org"): STOP,
    }
    policy = IdlePolicy(STOP, rules)
    assert policy_of(policy_table(policy)) == policy
    said = [(one["environment"], one["lab"], one["user"]) for one in policy_table(policy)["rules"]]
    assert said[0] == ("rstudio", None, None), "the least specific first"
    assert scope_of("", " Genomics ", " Ada@Example.org ") == Scope(None, "Genomics", "ada@example.org")
    assert scope_of() == EVERYONE


@on_every_database
async def test_watches_are_put_replaced_and_forgotten(database: Database) -> None:
    first, second = Watch(AT, STOP), Watch(AT + timedelta(minutes=5), FREEZE)
    async with database.transaction() as db:
        await idle_watches.put(db, {"a": first, "b": first})
        await idle_watches.put(db, {"b": second})
        await idle_watches.put(db, {})
        assert await idle_watches.all_of(db) == {"a": first, "b": second}
        await idle_watches.forget(db, ["a", "nothing"])
        await idle_watches.forget(db, [])
        assert await idle_watches.all_of(db) == {"b": second}


@on_every_database
async def test_decisions_come_newest_first_by_pages_and_only_to_their_owner(database: Database) -> None:
    added = [replace(ONE, at=AT + timedelta(minutes=number)) for number in range(5)]
    others = replace(
        ONE, instance_id="b" * 16, owner_id="p" * 16, verdict=Verdict.KEEP, why=Why.WORKING, idle_since=None
    )
    async with database.transaction() as db:
        for one in (*added, others):
            await idle_decisions.add(db, one)
        found = await idle_decisions.of_instance(db, ONE.instance_id, ONE.owner_id, limit=3)
        rest = await idle_decisions.of_instance(db, ONE.instance_id, ONE.owner_id, limit=3, before_id=found[-1].id)
        assert [replace(one, id=0) for one in (*found, *rest)] == added[::-1]
        assert await idle_decisions.of_instance(db, ONE.instance_id, others.owner_id, limit=9) == []
        everyones = await idle_decisions.page(db, limit=9)
        assert [replace(one, id=0) for one in everyones] == [others, *added[::-1]]
        assert await idle_decisions.page(db, limit=9, before_id=everyones[1].id) == everyones[2:]
        latest = await idle_decisions.latest_of(db, [ONE.instance_id, others.instance_id, "nothing"])
        assert {name: one.at for name, one in latest.items()} == {ONE.instance_id: added[-1].at, others.instance_id: AT}
        counted = await idle_decisions.count_since(db, AT + timedelta(minutes=1))
        assert counted == {Verdict.STOP: 4}
        assert await idle_decisions.prune(db, AT + timedelta(minutes=2)) == 3
        assert len(await idle_decisions.page(db, limit=9)) == 3


@on_every_database
async def test_evidence_of_any_length_is_kept_as_far_as_there_is_room(database: Database) -> None:
    async with database.transaction() as db:
        await idle_decisions.add(db, replace(ONE, evidence="é" * 900, rule="r" * 900))
        [found] = await idle_decisions.page(db, limit=1)
    assert (len(found.evidence), len(found.rule)) == (500, 500)

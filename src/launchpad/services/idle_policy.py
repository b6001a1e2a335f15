"""The idle rules: the settings', until an administrator changes one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from ..domain.audit_words import changes_in_words
from ..domain.policy import EVERYONE, IdlePolicy, IdleRule, Scope
from ..domain.policy_codec import policy_of, policy_table, rule_problems, scope_problems
from ..errors import InvalidInput, NotFound
from ..settings import Settings
from ..store import audit, kv, users
from ..store.changes import Change
from ..store.database import Database
from .audit import Actor
from .live.remembered import Answer, Remembered

_KEY = "idle_policy"


class IdlePolicyService:
    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._environments = [one.name for one in settings.environments]
        self._changed: Remembered[str, tuple[dict[str, Any] | None]] = Remembered(database.changes, 1)

    async def policy(self) -> IdlePolicy:
        """The rules in force."""

        async def read() -> Answer[tuple[dict[str, Any] | None]]:
            async with self._database.reading() as db:
                return Answer((await kv.get(db, _KEY),), (Change("kv", _KEY),))

        found = await self._changed.get(_KEY, read)
        return self._of(found[0] if found is not None else None)

    async def policy_in(self, db: AsyncConnection) -> IdlePolicy:
        """As `policy`, inside a transaction."""
        return self._of(await kv.get(db, _KEY))

    def _of(self, changed: dict[str, Any] | None) -> IdlePolicy:
        return self._settings.idle_policy if changed is None else policy_of(changed)

    async def set_rule(self, scope: Scope, rule: IdleRule | None, actor: Actor, now: datetime) -> IdlePolicy:
        """Sets the rule of a scope; None removes it, so that a less specific one applies.

        Idle time counts for a rule from when it is in force for an instance, so nothing ends at once.

        Raises:
            InvalidInput: with what is wrong, by field.
            NotFound: there is no such rule to be removed.
        """
        if rule is None and scope == EVERYONE:
            raise InvalidInput("The rule for everyone cannot be removed.", fields={"action": "choose what is done"})
        async with self._database.transaction() as db:
            before = await self.policy_in(db)
            if rule is None and scope not in before.rules:
                raise NotFound(f"There is no rule for {scope.in_words}.")
            rules = {one: each for one, each in before.rules.items() if one != scope}
            after = IdlePolicy(before.everyone, rules)
            if scope == EVERYONE and rule is not None:
                after = IdlePolicy(rule, rules)
            elif rule is not None:
                after.rules[scope] = rule
            await self._put(db, before, after, actor, now, about=scope)
        return after

    async def set_policy(self, policy: IdlePolicy, actor: Actor, now: datetime) -> IdlePolicy:
        """Replaces all rules.

        Raises:
            InvalidInput: with what is wrong, by field.
        """
        async with self._database.transaction() as db:
            await self._put(db, await self.policy_in(db), policy, actor, now)
        return policy

    async def _put(
        self,
        db: AsyncConnection,
        before: IdlePolicy,
        after: IdlePolicy,
        actor: Actor,
        now: datetime,
        *,
        about: Scope | None = None,
    ) -> None:
        """`about`: what alone is changed; None: all rules are replaced."""
        changed = [one for one in after.rules if before.rules.get(one) != after.rules[one]]
        problems: dict[str, str] = {}
        for scope in changed:
            problems |= scope_problems(scope, self._environments) | rule_problems(after.rules[scope])
        if EVERYONE in after.rules:
            problems["user"] = "name an environment, a lab or a person"
        problems |= rule_problems(after.everyone)
        if problems:
            raise InvalidInput("This rule cannot be set.", fields=problems)
        await kv.put(db, _KEY, policy_table(after), now)
        changes = changes_in_words(_in_words(before), _in_words(after))
        theirs = [
            one for one in {**before.rules, **after.rules} if one.user and before.rules.get(one) != after.rules.get(one)
        ]
        owners = await users.by_emails(db, {str(one.user) for one in theirs})
        subjects = {one.in_words: owners.get(str(one.user)) for one in theirs}
        if about is None:
            subjects = {"all rules": None, **subjects}
        elif about.in_words not in subjects:
            subjects = {about.in_words: None}
        for subject, owner in subjects.items():
            await audit.add(
                db,
                at=now,
                actor=actor.name,
                client=actor.client,
                action="idle_policy.changed",
                subject=subject[:254],
                details={name: text for name, text in changes.items() if owner is None or name == subject},
                owner_id=actor.on(owner.id) if owner is not None else None,
            )


def _in_words(policy: IdlePolicy) -> dict[str, str]:
    rules = {scope.in_words: rule.in_words for scope, rule in policy.rules.items()}
    return {EVERYONE.in_words: policy.everyone.in_words, **rules}

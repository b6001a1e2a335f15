"""What becomes of an instance that nobody uses and that does nothing: the rule that applies, and what it decides. Pure.

An instance is idle only while there is neither a person nor work in it, and only for as long as both were watched: the
idle time begins with the latest of a person's last act, the last work and the moment since which it has been watched
without a gap. What is not known keeps it: without a look at it that is fresh, nothing ends.

Of the rules that fit an instance the most specific applies, alone; nothing of a less specific one is mixed in. One that
names the user goes before one that names the lab, that before one that names only the environment, and the rule for
everyone comes last. Two that name the same user, or the same lab, are told apart by the environment: the one that names
it goes first. A rule may also say that nothing is done, which exempts whom it names.

The same function serves the portal, with what it sees now, and a replay, with what was recorded: it takes plain values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from .sizes import describe_minutes

SHORTEST_MINUTES, LONGEST_MINUTES = 1, 60 * 24 * 60


class IdleAction(StrEnum):
    """What a rule does to an idle instance: nothing, end it, or freeze it."""

    NONE = "none"
    STOP = "stop"
    FREEZE = "freeze"


@dataclass(frozen=True)
class IdleRule:
    """`idle_minutes`: after so long without a person and without work. Off unless it says what to do."""

    action: IdleAction = IdleAction.NONE
    idle_minutes: int = 240

    @property
    def is_on(self) -> bool:
        return self.action is not IdleAction.NONE

    @property
    def idle_time(self) -> timedelta:
        return timedelta(minutes=self.idle_minutes)

    @property
    def in_words(self) -> str:
        """ "nothing is stopped", "stopped after 4 hours", "frozen after 90 minutes"."""
        if not self.is_on:
            return "nothing is stopped"
        done = "frozen" if self.action is IdleAction.FREEZE else "stopped"
        return f"{done} after {describe_minutes(self.idle_minutes)}"


@dataclass(frozen=True)
class Scope:
    """Whose instances, and of which environment, a rule is about; None: any.

    Attributes:
        user: an e-mail address, in lower case.
    """

    environment: str | None = None
    lab: str | None = None
    user: str | None = None

    def fits(self, environment: str, lab: str | None, user: str) -> bool:
        return (
            self.environment in (None, environment)
            and (self.lab is None or self.lab == lab)
            and self.user in (None, user)
        )

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """The higher, the more specific."""
        return self.user is not None, self.lab is not None, self.environment is not None

    @property
    def in_words(self) -> str:
        """ "everyone", "the lab Genomics", "rstudio of ada@example.org"."""
        whose = self.user or (f"the lab {self.lab}" if self.lab is not None else "everyone")
        return whose if self.environment is None else f"{self.environment} of {whose}"


EVERYONE = Scope()


@dataclass(frozen=True)
class IdlePolicy:
    """All rules. `everyone` is the one that applies where no other fits; `rules` has one for a scope at most."""

    everyone: IdleRule = field(default_factory=IdleRule)
    rules: dict[Scope, IdleRule] = field(default_factory=dict)

    def rule_for(self, environment: str, lab: str | None, user: str) -> tuple[Scope, IdleRule]:
        """The rule that applies to an instance, and whom it names.

        Args:
            lab: of the instance's owner.
            user: the owner's e-mail address.
        """
        # Looked up, not searched: thousands of instances are held to thousands of rules every half minute.
        for its_lab, its_user in ((lab, user), (None, user), (lab, None), (None, None)):
            for scope in (Scope(environment, its_lab, its_user), Scope(None, its_lab, its_user)):
                if scope != EVERYONE and (rule := self.rules.get(scope)) is not None:
                    return scope, rule
        return EVERYONE, self.everyone

    @property
    def is_on(self) -> bool:
        """Whether any rule does anything."""
        return self.everyone.is_on or any(rule.is_on for rule in self.rules.values())

    @property
    def actions(self) -> frozenset[IdleAction]:
        return frozenset(rule.action for rule in (self.everyone, *self.rules.values()))


class Verdict(StrEnum):
    """What a decision comes to: it keeps running, or is stopped or frozen at the decision's time."""

    KEEP = "keep"
    STOP = "stop"
    FREEZE = "freeze"


class Why(StrEnum):
    """What decided: no rule that does anything, work, the owner's wish, nothing known, or the idle time.

    `CANNOT`: it is to be frozen, and the server cannot do that.
    """

    NO_RULE = "no rule"
    WORKING = "working"
    KEPT = "kept by its owner"
    UNKNOWN = "not known"
    IDLE = "idle"
    CANNOT = "cannot be frozen"


@dataclass(frozen=True)
class Decision:
    """
    Attributes:
        at: when it is stopped or frozen, unless somebody uses it or it works before; None: not as things are.
        idle_since: since when neither a person nor work was seen while it was watched; None: it works, or that is
            not known.
        evidence: what the decision rests on, in the user's words, times left out.
    """

    verdict: Verdict
    why: Why
    evidence: str
    at: datetime | None = None
    idle_since: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Whether it is to be stopped or frozen now."""
        return self.verdict is not Verdict.KEEP and self.at is not None and self.at <= now


NOT_WATCHED = "what it does is not known"
IS_WORKING = "code is running"
NO_PERSON_NO_WORK = "no person and no work"


def decide(
    rule: IdleRule,
    *,
    last_person_at: datetime | None,
    last_work_at: datetime | None,
    is_working: bool,
    evidence: str = "",
    watched_since: datetime | None,
    kept_until: datetime | None = None,
    not_before: datetime | None = None,
    now: datetime,
) -> Decision:
    """What a rule makes of an instance, of what is known at `now`.

    Args:
        last_person_at: a person's last act in it, its launch included; None: none was ever seen.
        last_work_at: when it was last seen working; None: never.
        is_working: whether it works now.
        evidence: what it does, where it works, in the user's words ("STAR, 11 cores").
        watched_since: since when it has been watched without a gap, up to now; None: it is not being watched, or what
            was seen is stale. Idle time from before that does not count.
        kept_until: the owner wants it to run until then, whatever it does.
        not_before: nothing is done before, for a reason outside the instance, as a portal that has just started.

    Returns:
        `at` of a stop or freeze may lie ahead: then nothing is to be done yet. It does not move while nothing happens
        in the instance.
    """
    if not rule.is_on:
        return Decision(Verdict.KEEP, Why.NO_RULE, "no rule applies")
    if watched_since is None or watched_since > now:
        return Decision(Verdict.KEEP, Why.UNKNOWN, NOT_WATCHED)
    if is_working:
        return Decision(Verdict.KEEP, Why.WORKING, evidence or IS_WORKING)
    idle_since = max(at for at in (last_person_at, last_work_at, watched_since) if at is not None)
    at = idle_since + rule.idle_time
    verdict = Verdict.FREEZE if rule.action is IdleAction.FREEZE else Verdict.STOP
    if kept_until is not None and kept_until > max(at, now):
        return Decision(verdict, Why.KEPT, "kept running by its owner", kept_until, idle_since)
    at = max(at, kept_until or at)
    if not_before is not None and not_before > at:
        at = not_before
    return Decision(verdict, Why.IDLE, NO_PERSON_NO_WORK, at, idle_since)


def watched(before: datetime | None, seen_at: datetime | None, sampled_at: datetime, gap: timedelta) -> datetime:
    """Since when an instance has been watched without a gap, at a new look at it.

    Args:
        before: since when it was, up to the look before; None: it was not.
        seen_at: that look; None: there was none.
        sampled_at: the new look.
        gap: more than that between two looks, in either direction, and the watch begins anew.
    """
    if before is None or seen_at is None or abs(sampled_at - seen_at) > gap:
        return sampled_at
    return min(before, sampled_at)

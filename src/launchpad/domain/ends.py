"""How an end is told: what is known of it, in words, to whom it concerns. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from .instances import Instance, State
from .memory import victim_in_words
from .sizes import describe_bytes

STOPPED_BY_OWNER = "stopped by you"
STOPPED_BY_ADMIN = "stopped by an administrator"
OWNER_SUSPENDED = "stopped, since your account was suspended"
COMMAND_LINE = "cli"  # who acts when nobody is signed in: the administrator at the server's terminal

KILLED, TERMINATED = 137, 143  # 128 + SIGKILL and SIGTERM, as the engine reports them
LATELY = timedelta(seconds=30)  # between a cause and the end that it explains
REASON_LENGTH = 500  # characters, as the database has it


class Gap(StrEnum):
    """Nothing was missed, the engine was away, or the whole server was."""

    NONE = ""
    ENGINE = "engine"
    SERVER = "server"


@dataclass(frozen=True)
class EndFacts:
    """What is known of a container that is not running although the platform did not end it.

    Attributes:
        exists: false: it is gone.
        out_of_memory: something in it was killed for memory, and it ended of that.
        signalled: somebody told the engine to end it (docker stop, kill, rm), or the engine itself was ended.
        gap: what kept everybody from seeing how it ended.
    """

    exists: bool
    exit_code: int | None = None
    out_of_memory: bool = False
    signalled: bool = False
    gap: Gap = Gap.NONE

    @property
    def from_outside(self) -> bool:
        """Neither the application nor its owner ended it."""
        return not self.exists or self.signalled or self.gap is not Gap.NONE

    @property
    def by_itself(self) -> bool:
        """The application ended in good order, as from its own menu."""
        return self.exists and self.exit_code == 0 and not self.out_of_memory and not self.from_outside


def why_ended(title: str, memory_bytes: int, facts: EndFacts, victim: str = "") -> str:
    """The reason, in its owner's words, and no more than is known.

    Args:
        victim: what was ended for lack of memory, and what it held; empty where nobody can tell.
    """
    memory = describe_bytes(memory_bytes)
    if facts.out_of_memory:
        return f"out of memory at {memory}" + (f": {victim}" if victim else "")
    if facts.gap is Gap.SERVER:
        return "the server was restarted"
    if facts.gap is Gap.ENGINE:
        return "it ended while the server's container engine was restarted"
    if not facts.exists:
        return "its container was removed from outside the platform"
    if facts.signalled:
        how = "killed" if facts.exit_code == KILLED else "stopped"
        return f"{title} was {how} from outside the platform, by a command on the server or a stop of its engine"
    if facts.exit_code == 0:
        return f"{title} was shut down from inside"
    if facts.exit_code == KILLED:
        return (
            f"{title} was killed (exit code {KILLED}), by a program in it or on the server; "
            "no lack of memory was reported"
        )
    if facts.exit_code == TERMINATED:
        return f"{title} was told to end (exit code {TERMINATED}), by a program in it or on the server"
    return f"{title} ended by itself with exit code {facts.exit_code}"


def is_recent(at: datetime | None, now: datetime) -> bool:
    """Whether what happened `at` explains an end now."""
    return at is not None and now - at <= LATELY


def memory_notice(instance: Instance) -> str | None:
    """What the owner of an instance is told that goes on after the kernel ended something in it; None: it did not.

    The moment, and the number from the second on, tell one from the next.
    """
    if instance.oom_at is None:
        return None
    memory, at = describe_bytes(instance.oom_size_bytes), moment(instance.oom_at)
    rest = "what that program had not saved is lost, the IDE and the rest keep running"
    victim = victim_in_words(instance.oom_program or "", instance.oom_bytes, instance.oom_size_bytes)
    if instance.oom_count > 1:
        at = f"{at}, for the {_ordinal(instance.oom_count)} time"
    which = f" ({victim})" if victim else ""
    return f"a program in it needed more than its {memory} of memory and was ended on {at}{which}; {rest}"


def notices_of(instance: Instance, lacks: Sequence[str] = ()) -> tuple[str, ...]:
    """What the owner of a running instance has to know: what happened to it, and what it lacks now."""
    if instance.state is not State.RUNNING:
        return ()
    happened = [told for told in (memory_notice(instance), _written_notice(instance)) if told]
    return (*happened, *lacks)


def _written_notice(instance: Instance) -> str:
    if instance.written_bytes is None:
        return ""
    return (
        f"it has written {describe_bytes(instance.written_bytes)} outside the home folder (/tmp, for example), which "
        "is lost when it ends: delete what is not needed there"
    )


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def moment(at: datetime) -> str:
    return f"{at:%-d %B at %H:%M:%S} UTC"


def moment_of_day(at: datetime) -> str:
    return f"{at:%-d %B %Y at %H:%M} UTC"


def with_first_cause(reason: str, instance: Instance) -> str:
    """The reason of an end, with what went wrong before it: the first cause is not lost behind the last."""
    if instance.oom_at is None or "out of memory at" in reason:
        return _bounded(reason)
    memory = describe_bytes(instance.oom_size_bytes)
    victim = victim_in_words(instance.oom_program or "", instance.oom_bytes, instance.oom_size_bytes)
    when = f"{victim}, on {moment(instance.oom_at)}" if victim else f"on {moment(instance.oom_at)}"
    return _bounded(f"{reason}; before, a program in it ran out of memory at {memory} ({when})")


def with_cause(reason: str, cause: str | None) -> str:
    return _bounded(f"{reason}: {cause}" if cause else reason)


def _bounded(text: str) -> str:
    return text if len(text) <= REASON_LENGTH else text[: REASON_LENGTH - 1] + "…"


# What is said to the owner, as somebody else reads it.
_TO_OTHERS = (
    (re.compile(r"\byour account was suspended"), "its owner was suspended"),
    (re.compile(r"\byour (home folder|settings files?)\b"), r"its owner's \1"),
    (re.compile(r"\bone of your settings files\b"), "one of its owner's settings files"),
    (re.compile(r", so launch with more storage if you may"), ""),
    (re.compile(r" Try again; if it happens twice, tell your administrator\."), ""),
)


def reason_for_others(reason: str | None, ended_by: str | None) -> str | None:
    """A reason as administrators read it of somebody else's instance.

    Args:
        ended_by: who ended it, as the audit names them; None: nobody, or it is not known.
    """
    if reason is None:
        return None
    who = {None: None, COMMAND_LINE: "an administrator on the server"}.get(ended_by, ended_by)
    if reason.startswith(STOPPED_BY_OWNER):
        reason = f"stopped by {who or 'its owner'}{reason[len(STOPPED_BY_OWNER) :]}"
    elif reason.startswith(STOPPED_BY_ADMIN) and who:
        reason = f"stopped by {who}{reason[len(STOPPED_BY_ADMIN) :]}"
    for pattern, words in _TO_OTHERS:
        reason = pattern.sub(words, reason)
    return reason

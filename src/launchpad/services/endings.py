"""What is known of an instance's end: why, the likely cause, its log; and the record of ends that nobody asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime

from ..domain.causes import Cause, CauseKind, likely_cause
from ..domain.ends import EndFacts, Gap, is_recent, why_ended, with_cause, with_first_cause
from ..domain.environments import Environment
from ..domain.instances import Instance, Stage, State, home_is_full
from ..domain.memory import victim_in_words
from ..errors import ContainerEnded, LaunchpadError, StartFailed
from ..runtime.base import Container, Runtime
from ..storage.base import Homes
from ..store import instances, kv
from ..store.database import Database
from ..systemd import boot_id
from .end_recorder import EndRecorder
from .instance_logs import InstanceLogs
from .out_of_memory import OutOfMemory

EXPLAINED_APART_SECONDS = 1.0
_BOOT = "endings.boot_id"  # key of the start of this server after which all rows were compared with the engine


class Endings:
    """Remembers, of the running process, who was told to end through the engine; the rest stands in the database."""

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        homes: Homes,
        logs: InstanceLogs,
        catalogue: Mapping[str, Environment],
        recorder: EndRecorder,
        deaths: OutOfMemory,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._homes = homes
        self._logs = logs
        self._catalogue = catalogue
        self._recorder = recorder
        self._deaths = deaths
        self._now = now
        self._signalled: dict[str, datetime] = {}

    def title(self, environment: str) -> str:
        found = self._catalogue.get(environment)
        return found.title if found else environment

    # -- what happens to a container ---------------------------------------------------------------------------------

    async def note_out_of_memory(self, instance_id: str) -> bool:
        """The kernel ended something in an instance for memory; true where a live one of that id was noted."""
        return await self._deaths.note(instance_id)

    async def explain_out_of_memory(self) -> None:
        """Finds out which programs that were; raises EngineUnavailable."""
        await self._deaths.look(EXPLAINED_APART_SECONDS)

    def note_signal(self, instance_id: str) -> None:
        """Somebody told the engine to end it."""
        now = self._now()
        self._signalled = {one: at for one, at in self._signalled.items() if is_recent(at, now)}
        self._signalled[instance_id] = now

    # -- why it ended ------------------------------------------------------------------------------------------------

    async def gap(self, engine_was_away: bool) -> Gap:
        """What kept everybody from seeing what happened to containers, since they were last compared with the rows."""
        async with self._database.reading() as db:
            before = await kv.get(db, _BOOT)
        now = boot_id()
        if before and now and before != now:
            return Gap.SERVER
        return Gap.ENGINE if engine_was_away else Gap.NONE

    async def compared(self) -> None:
        """All rows have been compared with the engine since this server was started."""
        now = boot_id()
        async with self._database.reading() as db:
            if not now or await kv.get(db, _BOOT) == now:
                return
        async with self._database.transaction() as db:
            await kv.put(db, _BOOT, now, self._now())

    def facts(self, instance: Instance, container: Container | None, gap: Gap = Gap.NONE) -> EndFacts:
        """What is known of a container that does not run although nobody of ours ended it."""
        now = self._now()
        exit_code = container.exit_code if container else None
        killed_for_memory = container is not None and container.out_of_memory
        # Where the engine does not say so (it can miss it on control groups version 1), the kernel's event does.
        told = exit_code not in (None, 0) and is_recent(instance.oom_at, now)
        return EndFacts(
            exists=container is not None,
            exit_code=exit_code,
            out_of_memory=killed_for_memory or told,
            signalled=is_recent(self._signalled.get(instance.id), now),
            gap=gap,
        )

    async def _facts_now(self, instance: Instance) -> EndFacts | None:
        """None: the engine does not say."""
        try:
            container = await self._runtime.find(instance.id)
        except LaunchpadError:
            return None
        async with self._database.reading() as db:
            return self.facts(await instances.by_id(db, instance.id) or instance, container)

    def why_ended(self, instance: Instance, facts: EndFacts) -> str:
        victim = victim_in_words(instance.oom_program or "", instance.oom_bytes, instance.limits.memory_bytes)
        return why_ended(self.title(instance.environment), instance.limits.memory_bytes, facts, victim)

    async def _with_victim(self, instance: Instance) -> Instance:
        """With what was ended for memory, as far as it can be told."""
        with suppress(LaunchpadError):
            await self._deaths.look()
        async with self._database.reading() as db:
            return await instances.by_id(db, instance.id) or instance

    async def why_failed(self, error: LaunchpadError, instance: Instance, username: str) -> tuple[str, Cause | None]:
        """Why a start failed, and the likely cause where the log tells it. Keeps the log.

        Many applications end as they start in a full home, and none of them says it: that is looked for first.
        """
        text = await self._logs.keep(instance.id, self._now())
        reason, cause = error.detail, None
        if isinstance(error, ContainerEnded):
            facts = await self._facts_now(instance)
            instance = await self._with_victim(instance) if facts and facts.out_of_memory else instance
            reason, cause = (self.why_ended(instance, facts), self.cause(text, facts)) if facts else (reason, None)
        elif isinstance(error, StartFailed):
            cause = likely_cause(text)
        if isinstance(error, StartFailed):
            with suppress(LaunchpadError):
                use = await self._homes.use(username)
                if full := home_is_full(use.used_bytes, use.limit_bytes, use.free_bytes):
                    by_limit = home_is_full(use.used_bytes, use.limit_bytes) is not None
                    way_out = "launch with more storage if you may" if by_limit else "tell your administrator"
                    words = f"{reason.rstrip('.')}; and {full}, so {way_out}"
                    return words, Cause(CauseKind.HOME_FULL, "")
        return with_cause(reason.rstrip(".") if cause else reason, cause.text if cause else None), cause

    def cause(self, log_text: str, facts: EndFacts) -> Cause | None:
        """What the log says of a failure, where the facts do not say it all."""
        if facts.out_of_memory or facts.by_itself:
            return None
        return likely_cause(log_text, exit_code=facts.exit_code, killed=facts.from_outside)

    async def keep_log(self, instance_id: str) -> None:
        await self._logs.keep(instance_id, self._now())

    # -- the record --------------------------------------------------------------------------------------------------

    async def as_failed(self, instance: Instance, reason: str, cause: Cause | None) -> None:
        """A start ends as failed, unless it has been ended meanwhile."""
        now = self._now()
        async with self._database.transaction() as db:
            there = await instances.by_id(db, instance.id)
            if there is None or there.state is not State.STARTING:
                return
            await self._recorder.finish(db, there, State.FAILED, reason, now, cause=cause and cause.kind)
            await self._recorder.by_itself(db, there, State.FAILED, reason, now)

    async def by_itself(self, instance: Instance, container: Container | None, gap: Gap) -> tuple[State, str] | None:
        """Commits the end of a running instance that ended by itself, explained and with its log kept.

        Returns:
            What it ends as, and why; None when somebody ended it meanwhile.
        """
        facts = self.facts(instance, container, gap)
        if facts.out_of_memory:
            instance = await self._with_victim(instance)
        text = await self._logs.keep(instance.id, self._now())
        cause = self.cause(text, facts)
        reason = with_first_cause(self.why_ended(instance, facts), instance)
        reason = with_cause(reason, cause.text if cause else None)
        kind = CauseKind.MEMORY if facts.out_of_memory else cause and cause.kind
        state = State.STOPPED if facts.by_itself else State.FAILED
        ends = {"ending_as": state, "reason": reason, "cause": kind, "stage": Stage.SAVING}
        async with self._database.transaction() as db:
            if not await instances.move(db, instance.id, State.RUNNING, State.STOPPING, **ends):
                return None
            await self._recorder.by_itself(db, instance, state, reason, self._now())
        return state, reason

    async def stopped(self, instance_id: str) -> bool:
        """What was to be stopped has been: it ends as it was decided. False: it is not being stopped."""
        now = self._now()
        async with self._database.transaction() as db:
            there = await instances.by_id(db, instance_id)
            if there is None or there.state is not State.STOPPING:
                return False
            return await self._recorder.finish(
                db, there, there.ending_as or State.STOPPED, there.reason or "stopped", now
            )

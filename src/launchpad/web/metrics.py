"""What `/metrics` tells Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from ..domain.background import LoopHealth, LoopState
from ..domain.policy import Verdict
from ..domain.warnings import EndKind
from ..errors import EngineUnavailable, LaunchpadError
from ..platform import Platform
from ..services.activity import ActivityService

MEDIA_TYPE = CONTENT_TYPE_LATEST


async def measured(platform: Platform) -> bytes:
    """In the text format of Prometheus."""
    return generate_latest(await _measure(platform))


async def _measure(platform: Platform) -> CollectorRegistry:
    registry = CollectorRegistry()
    by_state = Gauge("launchpad_instances", "Instances by state", ["state"], registry=registry)
    for state, number in (await platform.live.instances.count_by_state()).items():
        by_state.labels(state.value).set(number)
    frozen = Gauge("launchpad_instances_frozen", "Running instances that stand still", registry=registry)
    frozen.set(await platform.live.instances.count_frozen())
    waits = Gauge("launchpad_queue_longest_wait_seconds", "How long the oldest launch has queued", registry=registry)
    queued_since = await platform.live.instances.queued_since()
    waits.set((platform.now() - queued_since).total_seconds() if queued_since is not None else 0)
    Gauge("launchpad_users", "Registered users", registry=registry).set(await platform.users.count())
    failing = Gauge("launchpad_mail_failing", "1 when the last mail could not be sent", registry=registry)
    failing.set(platform.mail.failing)
    lost = Counter(
        "launchpad_mail_failures", "Mails that were not delivered, as far as known", ["kind"], registry=registry
    )
    for kind, number in (await platform.mail_failures.totals()).items():
        lost.labels(kind.value).inc(number)
    waiting = Gauge("launchpad_mail_waiting", "Mails that have not been handed over yet", registry=registry)
    waiting.set(await platform.mail.waiting())
    warned = Gauge("launchpad_warned_last_day", "Warnings of ends that were sent, by kind", ["kind"], registry=registry)
    counted = await platform.warnings.sent_since(platform.now() - timedelta(days=1))
    for end in EndKind:
        warned.labels(end.value).set(counted.get(end, 0))
    decided = Gauge(
        "launchpad_idle_decisions_last_day",
        "What the idle policy decided, by what was done: kept, stopped or frozen",
        ["verdict"],
        registry=registry,
    )
    found = await platform.idle.decided_since(platform.now() - timedelta(days=1))
    for verdict in Verdict:
        decided.labels(verdict.value).set(found.get(verdict, 0))
    ending = Gauge("launchpad_idle_ends", "Running instances that end for being idle unless used", registry=registry)
    ending.set(len(platform.idle.idle_ends()))
    memory = Gauge(
        "launchpad_memory_last_day",
        "Programs that were ended for lack of memory, owners warned of it, and instances given more, in the last day",
        ["what"],
        registry=registry,
    )
    for what, number in (await platform.memory.last_day(platform.now())).items():
        memory.labels(what).set(number)
    await _measure_homes(registry, platform)
    _measure_loops(registry, platform.background.health())
    _measure_activity(registry, platform.activity, platform.now())
    streams = Gauge("launchpad_event_streams", "Pages and programs that follow an instance live", registry=registry)
    streams.set(len(platform.events))
    up = Gauge("launchpad_engine_up", "1 when the container engine answers", registry=registry)
    total = Gauge("launchpad_capacity_bytes", "Memory that can be reserved", registry=registry)
    promised = Gauge("launchpad_promised_bytes", "Memory that is reserved", registry=registry)
    up.set(await platform.live.host.engine_answers())
    try:
        use = await platform.offers.use()
    except EngineUnavailable:  # it has not answered once yet, so nobody knows what the server has
        return registry
    total.set(use.capacity.memory_bytes)
    promised.set(use.reserved.memory_bytes)
    return registry


async def _measure_homes(registry: CollectorRegistry, platform: Platform) -> None:
    """As they were measured last; whose they are is no label, since there may be thousands."""
    counts, disk = await platform.home_use.counts(), await platform.live.measured.disk()
    states = Gauge(
        "launchpad_homes",
        "Home folders by how full they are: full, nearly, room, unlimited; unknown: there is none yet",
        ["state"],
        registry=registry,
    )
    for state, number in (
        ("full", counts.full),
        ("nearly", counts.nearly_full),
        ("room", counts.with_room),
        ("unlimited", counts.without_limit),
        ("unknown", counts.unknown),
    ):
        states.labels(state).set(number)
    used = Gauge("launchpad_homes_bytes", "What all home folders take up", registry=registry)
    used.set(counts.used_bytes)
    await _measure_snapshots(registry, platform)
    if disk is None:  # not measured yet
        return
    size = Gauge("launchpad_homes_disk_bytes", "Size of the disk with home folders", registry=registry)
    free = Gauge("launchpad_homes_disk_free_bytes", "What is free on the disk with home folders", registry=registry)
    size.set(disk.limit_bytes or 0)
    free.set(disk.free_bytes or 0)


async def _measure_snapshots(registry: CollectorRegistry, platform: Platform) -> None:
    try:
        found = await platform.snapshots.summary()
    except LaunchpadError:  # the helper is away, which others tell
        return
    number = Gauge("launchpad_snapshots", "Snapshots of home folders", registry=registry)
    number.set(found.number)
    of_homes = Gauge("launchpad_snapshots_homes", "Home folders that have snapshots", registry=registry)
    of_homes.set(found.homes)
    newest = Gauge(
        "launchpad_snapshots_newest_timestamp_seconds",
        "When the newest snapshot of a home folder was taken; 0: there is none",
        registry=registry,
    )
    newest.set(found.newest_at.timestamp() if found.newest_at is not None else 0)


def _measure_activity(registry: CollectorRegistry, activity: ActivityService, now: datetime) -> None:
    age = Gauge(
        "launchpad_activity_age_seconds",
        "Age of the newest sample of what instances do; -1: there is none yet",
        registry=registry,
    )
    age.set((now - activity.sampled_at).total_seconds() if activity.sampled_at is not None else -1)
    verdicts = Gauge(
        "launchpad_activity_instances", "Running instances by what they do", ["verdict"], registry=registry
    )
    known = activity.all().values()
    working = sum(one.work.is_working for one in known)
    verdicts.labels("working").set(working)
    verdicts.labels("idle").set(len(known) - working)


def _measure_loops(registry: CollectorRegistry, loops: Sequence[LoopHealth]) -> None:
    """Of this process. A loop that another process runs is not late here."""
    success = Gauge(
        "launchpad_loop_last_success_timestamp_seconds",
        "When a background loop last succeeded; 0: not yet",
        ["loop"],
        registry=registry,
    )
    failures = Counter("launchpad_loop_failures", "Failed passes of a background loop", ["loop"], registry=registry)
    late = Gauge("launchpad_loop_late", "1 when a background loop is late", ["loop"], registry=registry)
    for loop in loops:
        success.labels(loop.name).set(loop.last_success_at.timestamp() if loop.last_success_at else 0)
        failures.labels(loop.name).inc(loop.failures)
        late.labels(loop.name).set(loop.state is LoopState.LATE)

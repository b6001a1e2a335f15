"""The sizes that an instance may be given, or launched with again, where its memory does not do."""

from __future__ import annotations

from ...domain.causes import CauseKind
from ...domain.instances import Instance, State
from ...domain.limits import Offer, Quota
from ...domain.memory import larger_sizes
from ...domain.sizes import describe_bytes, format_bytes
from .values import Choice


def larger_choices(instance: Instance, offer: Offer, quota: Quota, others_bytes: int) -> tuple[Choice, ...]:
    """Larger sizes of a running instance, or of one that ended after it ran out of memory; the smallest first.

    Args:
        others_bytes: what its owner's other live instances have, which counts for their quota.
    """
    may_run = instance.state is State.RUNNING and not instance.is_to_be_frozen
    ended_of_it = not instance.is_live and (instance.cause is CauseKind.MEMORY or instance.oom_at is not None)
    if not may_run and not ended_of_it:
        return ()
    size = instance.limits.memory_bytes
    allowed = larger_sizes(offer.memory_bytes, size, quota.memory_bytes, others_bytes)
    return tuple(
        Choice(format_bytes(one), describe_bytes(one), refused=None if one in allowed else "over your quota")
        for one in larger_sizes(offer.memory_bytes, size)
    )

"""Points of a series as bytes: 34 each, several of them one after the other in a chunk.

A chunk is what is written and read at once: the minutes of a quarter of an hour, the quarters of a day, the hours of
ten days. What does not fit is cut off at the largest number; rates are whole bytes, cores tenths of a thousandth.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from .activity import Point, Step
from .replay import Stretch

CHUNK_SECONDS: dict[Step, int] = {Step.MINUTE: 900, Step.QUARTER: 86_400, Step.HOUR: 864_000}
KEPT: dict[Step, timedelta] = {
    Step.MINUTE: timedelta(days=2),
    Step.QUARTER: timedelta(weeks=5),
    Step.HOUR: timedelta(days=396),
}
_CORES_PARTS = 10_000
_KIB = 1024
_MOST = 2**32 - 1
_MOST_PROCESSES = 2**16 - 1
_WORKING, _USED = 1, 2
_POINT = struct.Struct("<HBxIIIHIIII")
_SEEN = struct.Struct("<HB31x")  # of the same: when, and what was seen


def chunk_of(at: datetime, step: Step) -> int:
    """The beginning of the chunk that `at` lies in, in seconds since 1970."""
    return int(at.timestamp()) // CHUNK_SECONDS[step] * CHUNK_SECONDS[step]


def chunks_between(since: datetime, until: datetime, step: Step) -> list[int]:
    """The beginnings of all chunks that have a moment from `since` until before `until` in them."""
    first, last = chunk_of(since, step), int(until.timestamp())
    return list(range(first, max(last, first + 1), CHUNK_SECONDS[step]))


def packed(points: Iterable[Point], begins_at: int, step: Step) -> bytes:
    """Points of one chunk as bytes, by their times; of two of one time the later in order counts."""
    by_place = {int((point.at.timestamp() - begins_at) // step): point for point in points}
    return b"".join(_packed(place, by_place[place]) for place in sorted(by_place))


def unpacked(data: bytes, begins_at: int, step: Step) -> Sequence[Point]:
    """The points of a chunk; what a torn record has too much is left out."""
    whole = data[: len(data) // _POINT.size * _POINT.size]
    return [_unpacked(fields, begins_at, step) for fields in _POINT.iter_unpack(whole)]


def _packed(place: int, point: Point) -> bytes:
    flags = (_WORKING if point.was_working else 0) | (_USED if point.was_used else 0)
    return _POINT.pack(
        place,
        flags,
        _fitting(point.cpu_cores * _CORES_PARTS),
        _fitting(point.memory_bytes / _KIB),
        _fitting(point.memory_without_cache_bytes / _KIB),
        min(max(0, point.processes), _MOST_PROCESSES),
        _fitting(point.disk_read_bytes_per_second),
        _fitting(point.disk_written_bytes_per_second),
        _fitting(point.network_received_bytes_per_second),
        _fitting(point.network_sent_bytes_per_second),
    )


def _unpacked(fields: tuple[int, ...], begins_at: int, step: Step) -> Point:
    place, flags, cores, memory, without_cache, processes, read, written, received, sent = fields
    return Point(
        datetime.fromtimestamp(begins_at + place * step, UTC),
        cores / _CORES_PARTS,
        memory * _KIB,
        without_cache * _KIB,
        processes,
        float(read),
        float(written),
        float(received),
        float(sent),
        was_working=bool(flags & _WORKING),
        was_used=bool(flags & _USED),
    )


def _fitting(number: float) -> int:
    return min(max(0, round(number)), _MOST)


def stretches(data: bytes, begins_at: int, step: Step, since: datetime, until: datetime) -> list[Stretch]:
    """The points of a chunk from `since` until before `until`, those in which the same was seen taken together.

    Millions of points are read so: only the last one of each stretch is unpacked.
    """
    size = _POINT.size
    first, end = (since.timestamp() - begins_at) / step, (until.timestamp() - begins_at) / step
    found: list[Stretch] = []
    before = -1, -1, -1  # the first place of the stretch, the last one, and its flags

    def close(last: int) -> None:
        begin, place, flags = before
        _, _, cores, memory, *_ = _POINT.unpack_from(data, last * size)
        found.append(
            Stretch(
                datetime.fromtimestamp(begins_at + begin * step, UTC),
                datetime.fromtimestamp(begins_at + (place + 1) * step, UTC),
                int(step),
                was_working=bool(flags & _WORKING),
                was_used=bool(flags & _USED),
                cpu_cores=cores / _CORES_PARTS,
                memory_bytes=memory * _KIB,
            )
        )

    index = -1
    for index, (place, flags) in enumerate(_SEEN.iter_unpack(data[: len(data) // size * size])):
        if not first <= place < end:
            if before[0] >= 0:
                close(index - 1)
                before = -1, -1, -1
        elif place == before[1] + 1 and flags == before[2] and before[0] >= 0:
            before = before[0], place, flags
        else:
            if before[0] >= 0:
                close(index - 1)
            before = place, place, flags
    if before[0] >= 0:
        close(index)
    return found

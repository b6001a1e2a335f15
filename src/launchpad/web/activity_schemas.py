"""What the API says of what goes on in an instance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, Field

from ..domain.activity import Activity, Point, Program, Step


class PointView(BaseModel):
    """One step: means of what is a rate, the most of memory and processes."""

    at: datetime
    cpu_cores: float
    memory_bytes: int = Field(description="Page cache included.")
    memory_without_cache_bytes: int
    pids: int = Field(description="Processes and threads.")
    disk_read_bytes_per_second: float
    disk_written_bytes_per_second: float
    network_received_bytes_per_second: float
    network_sent_bytes_per_second: float
    working: bool
    used: bool = Field(description="A person did something in it.")

    @classmethod
    def of(cls, point: Point) -> PointView:
        return cls(
            at=point.at,
            cpu_cores=point.cpu_cores,
            memory_bytes=point.memory_bytes,
            memory_without_cache_bytes=point.memory_without_cache_bytes,
            pids=point.processes,
            disk_read_bytes_per_second=point.disk_read_bytes_per_second,
            disk_written_bytes_per_second=point.disk_written_bytes_per_second,
            network_received_bytes_per_second=point.network_received_bytes_per_second,
            network_sent_bytes_per_second=point.network_sent_bytes_per_second,
            working=point.was_working,
            used=point.was_used,
        )


class ProgramView(BaseModel):
    name: str
    cpu_cores: float
    memory_bytes: int

    @classmethod
    def of(cls, program: Program) -> ProgramView:
        return cls(name=program.name, cpu_cores=program.cores, memory_bytes=program.memory_bytes)


class ActivityView(BaseModel):
    """`busy` are the busiest programs of the last half minute; it and what follows is empty of one that has ended."""

    step_seconds: int
    points: list[PointView]
    busy: list[ProgramView] = []
    sampled_at: datetime | None = None
    last_person_at: datetime | None = Field(None, description="When a person last did something in it.")
    last_work_at: datetime | None = Field(None, description="When it was last seen working.")
    verdict: str | None = Field(None, description="`working` or `idle`.")
    evidence: str = Field("", description="What it is doing, such as “STAR, 11 cores”.")
    kernels: int = 0
    terminals: int = 0

    @classmethod
    def of(cls, step: Step, points: Sequence[Point], latest: Activity | None) -> ActivityView:
        view = cls(step_seconds=int(step), points=[PointView.of(point) for point in points])
        if latest is None:
            return view
        return view.model_copy(
            update={
                "busy": [ProgramView.of(program) for program in latest.sample.programs],
                "sampled_at": latest.sample.sampled_at,
                "last_person_at": latest.last_person_at,
                "last_work_at": latest.last_work_at,
                "verdict": "working" if latest.work.is_working else "idle",
                "evidence": latest.work.evidence,
                "kernels": latest.sample.signals.kernels,
                "terminals": latest.sample.signals.terminals,
            }
        )

"""A treemap: areas as large as what they stand for, near to squares (Bruls, Huizing, van Wijk: Squarified treemaps)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...domain.sizes import describe_bytes
from ..files_schemas import SpaceNode
from .files import told_name

WIDTH, HEIGHT = 720.0, 400.0
SMALLEST = 3.0  # units of the drawing; what is narrower cannot be seen
GAP = 2.0
LETTER = 7.4  # the width of one, about


@dataclass(frozen=True)
class Area:
    x: float
    y: float
    width: float
    height: float

    @property
    def short(self) -> float:
        return min(self.width, self.height)


def squarified(sizes: Sequence[float], within: Area) -> list[Area]:
    """An area for each size, in the same order.

    Args:
        sizes: from the largest on, none of them negative.
    """
    total = sum(sizes)
    if total <= 0 or within.short <= 0:
        return [Area(within.x, within.y, 0, 0) for _ in sizes]
    scale = within.width * within.height / total
    areas = [size * scale for size in sizes]
    found: list[Area] = []
    while len(found) < len(areas):
        row = [areas[len(found)]]
        while len(found) + len(row) < len(areas):
            wider = [*row, areas[len(found) + len(row)]]
            if _worst(wider, within.short) > _worst(row, within.short):
                break
            row = wider
        placed, within = _placed(row, within)
        found += placed
    return found


def _worst(row: Sequence[float], side: float) -> float:
    """How far the least square one of a row along `side` is from a square."""
    total = sum(row)
    if total <= 0 or min(row) <= 0 or side <= 0:
        return float("inf")
    return max(side**2 * max(row) / total**2, total**2 / (side**2 * min(row)))


def _placed(row: Sequence[float], within: Area) -> tuple[list[Area], Area]:
    """A row along the shorter side, and what is left."""
    total = sum(row)
    if total <= 0 or within.short <= 0:
        return [Area(within.x, within.y, 0, 0) for _ in row], within
    thick = total / within.short
    placed, at = [], 0.0
    for one in row:
        long = one / thick
        if within.width >= within.height:
            placed.append(Area(within.x, within.y + at, thick, long))
        else:
            placed.append(Area(within.x + at, within.y, long, thick))
        at += long
    if within.width >= within.height:
        return placed, Area(within.x + thick, within.y, within.width - thick, within.height)
    return placed, Area(within.x, within.y + thick, within.width, within.height - thick)


def fitting(text: str, width: float) -> str:
    """As much of a text as fits; empty where that would say nothing."""
    most = int(width / LETTER)
    if len(text) <= most:
        return text
    return f"{text[: most - 1]}…" if most >= 4 else ""


@dataclass(frozen=True)
class Tile:
    """One area of the drawing, with what lies in it; `tone` tells neighbours apart."""

    node: SpaceNode
    area: Area
    label: str
    size: str
    tone: int
    inside: tuple[Area, ...] = ()

    @property
    def text_y(self) -> float:
        return self.area.y + 18


TONES = 6
HEAD = 26.0  # what the label of a folder takes, above what lies in it


def tiles(node: SpaceNode) -> list[Tile]:
    """What lies in a folder, the largest first, each folder with the outlines of what lies in it."""
    shown = [one for one in node.inside if one.bytes > 0]
    areas = squarified([float(one.bytes) for one in shown], Area(0, 0, WIDTH, HEIGHT))
    found = []
    for number, (one, area) in enumerate(zip(shown, areas, strict=True)):
        if area.short < SMALLEST:
            continue
        area = Area(area.x + GAP / 2, area.y + GAP / 2, area.width - GAP, area.height - GAP)
        size = describe_bytes(one.bytes) if area.height > 2 * HEAD else ""
        label = fitting(told_name(one.name), area.width - 14) if area.height > HEAD - 4 else ""
        found.append(
            Tile(
                one,
                area,
                label,
                size if len(size) * LETTER < area.width - 14 else "",
                number % TONES,
                _inside(one, area),
            )
        )
    return found


def _inside(node: SpaceNode, area: Area) -> tuple[Area, ...]:
    within = Area(area.x + 4, area.y + HEAD + 18, area.width - 8, area.height - HEAD - 22)
    if within.width < 24 or within.height < 24:
        return ()
    sizes = [float(one.bytes) for one in node.inside if one.bytes > 0]
    rest = node.bytes - sum(sizes)  # what is smaller than what is told of
    return tuple(one for one in squarified([*sizes, max(rest, 0.0)], within)[: len(sizes)] if one.short >= SMALLEST)

"""What takes up the room. Blocks are counted, so a hole takes none and a file with several names counts once."""

from __future__ import annotations

import heapq
import itertools
import os
import time
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidInput
from .home import Home, kind_of, number
from .tree import Walk

BLOCK = 512  # of st_blocks, whatever the file system's
SECONDS = 20
SHOWN = 60  # of each folder, the largest; the rest is one sum
MOST_SHOWN = 1500  # in all
DEEPEST = 3


@dataclass
class _Node:
    name: str
    kind: str
    bytes: int = 0
    files: int = 0
    inside: dict[str, _Node] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """With what lies in it, and in the largest folders first: in all no more than a page could show."""
        said = self._alone()
        room = MOST_SHOWN
        coming = [(-self.bytes, 0, self, said)]
        turn = itertools.count(1)  # of two of the same size the earlier one
        while coming and room > 0:
            _, _, node, told = heapq.heappop(coming)
            largest = heapq.nsmallest(min(SHOWN, room), node.inside.values(), key=lambda one: (-one.bytes, one.name))
            if not largest:
                continue
            room -= len(largest)
            told["inside"] = [one._alone() for one in largest]
            for one, its in zip(largest, told["inside"], strict=True):
                heapq.heappush(coming, (-one.bytes, next(turn), one, its))
        return said

    def _alone(self) -> dict[str, Any]:
        return {"name": self.name, "kind": self.kind, "bytes": self.bytes, "files": self.files}


def tell(home: Home, request: dict[str, Any]) -> None:
    """The sizes of what lies in a folder, and in its folders; bounded in time, and then `complete` is false."""
    depth = number(request, "depth", 2, 1, DEEPEST)
    seconds = number(request, "seconds", SECONDS, 1, 120)
    with home.folder(request.get("path", "")) as top:
        root = _Node("", "folder")
        complete = _measure(home, top, root, depth, time.monotonic() + seconds)
    home.line.say(**root.told(), complete=complete)


def sizes(home: Home, request: dict[str, Any]) -> None:
    """Of each of some folders alone; null for those that are not there. `without`: names in one that do not count."""
    told: list[dict[str, Any] | None] = []
    deadline = time.monotonic() + number(request, "seconds", SECONDS, 1, 120)
    complete = True
    for path in request.get("paths") or ():
        if not isinstance(path, str):
            raise InvalidInput("These are no paths.")
        try:
            with home.folder(path) as top:
                node = _Node("", "folder")
                complete = _measure(home, top, node, 1, deadline) and complete
                inside = {name: one.bytes for name, one in node.inside.items()}
                told.append({"bytes": node.bytes, "files": node.files, "inside": inside})
        except OSError:
            told.append(None)
    home.line.say(sizes=told, complete=complete)


def _measure(home: Home, top: int, root: _Node, depth: int, deadline: float) -> bool:
    seen: set[tuple[int, int]] = set()
    way = [root]  # the nodes of the folders that the walk is in, down to `depth`
    for turn, step in enumerate(Walk(home.beneath, top)):
        if turn % 256 == 0:
            home.line.look()
            if time.monotonic() > deadline:
                return False
        if step.kind in ("up", "closed"):
            if step.kind == "up":
                del way[len(step.names) + 1 :]
            continue
        try:
            status = os.stat(step.name, dir_fd=step.folder, follow_symlinks=False)
        except OSError:
            continue
        taken = status.st_blocks * BLOCK
        is_folder = step.kind == "down"
        if not is_folder and status.st_nlink > 1:
            ident = status.st_dev, status.st_ino
            taken = 0 if ident in seen else taken
            seen.add(ident)
        if len(step.names) < depth and len(way) == len(step.names) + 1:
            node = way[-1].inside.setdefault(step.name, _Node(step.name, kind_of(status.st_mode)))
            if is_folder:
                way.append(node)
            else:
                node.bytes += taken
                node.files += 1
        for node in way:
            node.bytes += taken
            node.files += not is_folder
    return True

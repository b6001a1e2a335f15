"""Counts what a home takes up on the disk, as the home's user. Standard library only: it runs by itself, see `walking`.

It goes down by descriptors, one name at a time, and follows no link: what is swapped for something else meanwhile is
counted as what it is then, or not at all. What it cannot see, or does not come to in time, makes the count a floor.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from .jail import become, shut_in

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
BLOCK_BYTES = 512  # the unit of st_blocks
DEEPEST = 8_000  # folders within folders: each keeps a descriptor open
MOST_WAITING = 500_000  # names of folders that are still to be looked at
MOST_LINKED = 500_000  # files of several names that are remembered, so that each counts once
MEMORY_BYTES = 1024**3  # of this process; the bounds above stay far below
LOOK_EVERY = 256  # entries between two looks at the clock
NICEST = 19
STANDARD_INPUT = 0  # a pipe whose other end has who waits for the count
# ioprio_set(2), which no library has: its number, a process, and the class that only gets what nobody else wants.
IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
IOPRIO_WHO_PROCESS, IOPRIO_IDLE = 1, 3 << 13

Stat = os.stat_result


class Counter:
    """What was found, and whether that is all.

    Args:
        seconds: it stops after so long.
        most: it stops after so many entries.
        clock: seconds that only go forward.
        is_left: whether nobody waits for it any more; it stops then.
    """

    def __init__(
        self,
        seconds: float,
        most: int,
        clock: Callable[[], float] = time.monotonic,
        is_left: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clock = clock
        self._is_left = is_left
        self._until = clock() + seconds
        self._most = most
        self._linked: set[int] = set()
        self._waiting = 0
        self.bytes = 0
        self.entries = 0
        self.whole = True

    def count(self, root: int) -> None:
        """What lies below an opened folder, and the folder itself; on its file system only."""
        top = os.fstat(root)
        self.bytes += top.st_blocks * BLOCK_BYTES
        way: list[tuple[int, list[str]]] = [(root, self._folders_in(root, top.st_dev))]
        try:
            while way and not self._is_over():
                folder, names = way[-1]
                if not names:
                    way.pop()
                    if folder != root:
                        os.close(folder)
                    continue
                inner = self._opened(folder, names.pop(), top.st_dev)
                self._waiting -= 1
                if inner is None:
                    continue
                if len(way) > DEEPEST:
                    os.close(inner)
                    self.whole = False
                    continue
                way.append((inner, self._folders_in(inner, top.st_dev)))
        finally:
            self.whole = self.whole and not way
            for folder, _ in way:
                if folder != root:
                    os.close(folder)

    def _opened(self, folder: int, name: str, device: int) -> int | None:
        try:
            inner = os.open(name, FOLDER, dir_fd=folder)
        except FileNotFoundError:
            return None  # gone since it was listed
        except OSError:
            self.whole = False  # unreadable, or it has become something else
            return None
        if os.fstat(inner).st_dev != device:
            os.close(inner)
            return None
        return inner

    def _folders_in(self, folder: int, device: int) -> list[str]:
        """Counts what lies directly in a folder; returns the names of those that are folders."""
        names: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if self._is_over():
                        break
                    self._one(entry, device, names)
        except OSError:
            self.whole = False
        return names

    def _one(self, entry: os.DirEntry[str], device: int, names: list[str]) -> None:
        self.entries += 1
        try:
            state = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError:
            self.whole = False
            return
        if state.st_dev != device:
            return  # another file system, mounted here
        if stat.S_ISDIR(state.st_mode):
            if self._waiting >= MOST_WAITING:
                self.whole = False
                return
            self._waiting += 1
            names.append(entry.name)
        elif state.st_nlink > 1 and self._is_known(state):
            return
        self.bytes += state.st_blocks * BLOCK_BYTES

    def _is_known(self, state: Stat) -> bool:
        if state.st_ino in self._linked:
            return True
        if len(self._linked) < MOST_LINKED:
            self._linked.add(state.st_ino)
            return False
        self.whole = False  # neither once nor several times would be right
        return True

    def _is_over(self) -> bool:
        over = self.entries >= self._most
        if not over and self.entries % LOOK_EVERY == 0:
            over = self._clock() > self._until or self._is_left()
        if over:
            self.whole = False
        return over


def is_closed(pipe: int) -> bool:
    """Whether nobody has the other end of a pipe any more; never of what is none."""
    looking = select.poll()
    looking.register(pipe, 0)
    return bool(looking.poll(0))


def give_way(nice: int = NICEST) -> None:
    """Takes the disk only where nobody else wants it, and the processor only behind others."""
    os.nice(nice)
    number = IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None, use_errno=True).syscall(number, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE)


def main(home: int, uid: int, seconds: float, most: int) -> None:
    """Args: descriptor of the home, its user, and the bounds. Root shuts itself in; others have nothing to give up."""
    give_way()
    if os.geteuid() == 0:
        with suppress(ValueError, OSError):  # with fewer, what is deeper makes the count a floor
            resource.setrlimit(resource.RLIMIT_NOFILE, (DEEPEST + 100, DEEPEST + 100))
        shut_in(home)
        become(uid)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    counter = Counter(seconds, most, is_left=lambda: is_closed(STANDARD_INPUT))
    counter.count(home)
    sys.stdout.write(json.dumps({"bytes": counter.bytes, "entries": counter.entries, "whole": counter.whole}) + "\n")
    sys.stdout.flush()

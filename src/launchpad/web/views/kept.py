"""Values that are made of others and kept until those change."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """The latest value of each key, given again only while everything that it is made of is equal to what it was.

    So nothing has to be told when it has changed, and nothing kept is ever out of date: `made_of` is all that `make`
    looks at. At most `most` keys are kept, the latest used.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[K, tuple[tuple[object, ...], V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K, made_of: tuple[object, ...], make: Callable[[], V]) -> V:
        """The value of `make`, now or from before."""
        kept = self._kept.get(key)
        if kept is not None and kept[0] == made_of:
            self._kept.move_to_end(key)
            return kept[1]
        value = make()
        self._kept[key] = (made_of, value)
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return value

"""The store's feed of changes, for whoever is told of them outside of the store."""

from __future__ import annotations

from ...store.changes import EVERYTHING, Change, ChangeFeed

__all__ = ["EVERYTHING", "Change", "ChangeFeed"]

"""Tables as CSV that spreadsheets read, in which nothing is a formula to them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

CSV = "text/csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would carry out


def csv_rows(rows: Iterable[Sequence[object]]) -> str:
    """Lines of a table."""
    text = io.StringIO()
    csv.writer(text).writerows([_plain(value) for value in row] for row in rows)
    return text.getvalue()


def _plain(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value

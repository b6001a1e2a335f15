"""What may be shown of a file, without believing what it says it is: text, rows, images by their first bytes, notebooks
as cells of plain text and images, PDF as bytes. Nothing is run, and no markup of a file is handed on as such.
"""

from __future__ import annotations

import csv
import io
import os
from typing import Any

from ...errors import Conflict, InvalidInput, TooLarge
from .home import Home, etag_of
from .notebooks import cells_of

TEXT_BYTES = 256 * 1024
TABLE_BYTES = 4 * 1024**2
ROWS, COLUMNS, CELL_CHARACTERS = 200, 200, 2000
IMAGE_BYTES = 64 * 1024**2
PDF_BYTES = 512 * 1024**2
NOTEBOOK_BYTES = 48 * 1024**2
DELIMITERS = ",;\t|"
LOOKED_AT = 1024  # a PDF may begin a little later


def send(home: Home, request: dict[str, Any]) -> None:
    kind = request.get("kind")
    with home.file(request.get("path")) as (file, status):
        about = {"size": status.st_size, "etag": etag_of(status)}
        if kind == "text":
            home.line.say(**about, **_text(file))
        elif kind == "csv":
            home.line.say(**about, **_table(file))
        elif kind == "notebook":
            _fits(status.st_size, NOTEBOOK_BYTES)
            home.line.say(**about, **cells_of(_first(file, NOTEBOOK_BYTES)))
        elif kind in ("image", "pdf"):
            _fits(status.st_size, IMAGE_BYTES if kind == "image" else PDF_BYTES)
            first = _first(file, LOOKED_AT)
            media_type = image_type(first) if kind == "image" else _pdf_type(first)
            if media_type is None:
                raise Conflict(f"This is not {'an image' if kind == 'image' else 'a PDF'} that can be shown here.")
            home.line.say(**about, media_type=media_type)
            home.line.send_file(file, 0, status.st_size)
            home.line.send(b"")
        else:
            raise InvalidInput("There is no such preview.")


def image_type(first: bytes) -> str | None:
    """By its first bytes, of the formats that browsers draw and that hold no script."""
    if first.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if first.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if first.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if first[:4] == b"RIFF" and first[8:12] == b"WEBP":
        return "image/webp"
    return None


def _pdf_type(first: bytes) -> str | None:
    return "application/pdf" if b"%PDF-" in first else None


def _fits(size: int, most: int) -> None:
    if size > most:
        raise TooLarge("This file is too large to be shown here. Download it instead.")


def _first(file: int, length: int) -> bytes:
    parts = []
    at = 0
    while at < length:
        part = os.pread(file, min(length - at, 1024**2), at)
        if not part:
            break
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def decoded(content: bytes, *, cut: bool) -> tuple[str, str]:
    """The text, and what it was taken for. Of a text that was cut, half a character at its end is left out."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace"), encoding
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        if cut and error.start >= len(content) - 3:
            return content[: error.start].decode("utf-8"), "utf-8"
    return content.decode("latin-1"), "latin-1"


def _text(file: int) -> dict[str, Any]:
    content = _first(file, TEXT_BYTES + 1)
    cut = len(content) > TEXT_BYTES
    content = content[:TEXT_BYTES]
    if b"\0" in content and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return {"text": "", "encoding": "binary", "cut": False}
    text, encoding = decoded(content, cut=cut)
    return {"text": text, "encoding": encoding, "cut": cut}


def _table(file: int) -> dict[str, Any]:
    content = _first(file, TABLE_BYTES + 1)
    cut = len(content) > TABLE_BYTES
    if b"\0" in content[:TABLE_BYTES] and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Conflict("This is not a table that can be shown here.")
    text, encoding = decoded(content[:TABLE_BYTES], cut=cut)
    delimiter = _delimiter(text)
    csv.field_size_limit(TABLE_BYTES)
    rows: list[list[str]] = []
    widest = 0
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if len(rows) == ROWS:
                cut = True
                break
            widest = max(widest, len(row))
            rows.append([cell[:CELL_CHARACTERS] for cell in row[:COLUMNS]])
    except csv.Error:
        cut = True  # what came before it is shown
    return {"rows": rows, "columns": widest, "delimiter": delimiter, "encoding": encoding, "cut": cut}


def _delimiter(text: str) -> str:
    """What the first lines hold most of, and the same number of times in each, if there is such a one."""
    lines = [line for line in text[:64_000].splitlines()[:20] if line.strip()]
    if not lines:
        return ","
    counts = {one: [line.count(one) for line in lines] for one in DELIMITERS}
    return max(DELIMITERS, key=lambda one: (min(counts[one]) > 0, len(set(counts[one])) == 1, sum(counts[one])))

"""A notebook (nbformat 3 or 4) as cells of plain text and images. HTML and SVG of outputs are only texts."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from ...errors import Conflict

CELLS, OUTPUTS = 500, 50
SOURCE_CHARACTERS, OUTPUT_CHARACTERS = 100_000, 50_000
TEXT_CHARACTERS = 2_000_000  # in all: the portal has to read it, and to put it into a page
IMAGES_BYTES = 16 * 1024**2  # in all
IMAGES = ("image/png", "image/jpeg")
MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}
TEXTS = ("text/plain", "text/markdown", "text/latex", "text/html", "application/json")  # the first of them is shown
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
HALVES = re.compile("[\ud800-\udfff]")  # of characters: JSON can have one alone, and no answer can
NONE = "This is not a notebook that can be shown here."


def cells_of(content: bytes) -> dict[str, Any]:
    """Raises Conflict where it is no notebook."""
    try:
        read = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Conflict(NONE) from error
    if not isinstance(read, dict):
        raise Conflict(NONE)
    cells = read.get("cells")
    if cells is None and isinstance(read.get("worksheets"), list):  # nbformat 3
        cells = [cell for sheet in read["worksheets"] if isinstance(sheet, dict) for cell in _list(sheet.get("cells"))]
    if not isinstance(cells, list):
        raise Conflict(NONE)
    budget = _Budget()
    told = []
    for cell in cells[:CELLS]:
        if budget.text <= 0:
            break
        if isinstance(cell, dict):
            told.append(_cell(cell, budget))
    return {"language": _language(read), "cells": told, "cut": len(cells) > CELLS or budget.text <= 0}


@dataclass
class _Budget:
    """What may still be shown."""

    text: int = TEXT_CHARACTERS
    images: int = IMAGES_BYTES

    def some_of(self, text: str, most: int) -> str:
        """As much of a text as may be, without what no answer can hold."""
        some = HALVES.sub("\ufffd", text[: max(0, min(most, self.text))])
        self.text -= len(some)
        return some


def _cell(cell: dict[str, Any], budget: _Budget) -> dict[str, Any]:
    kind = cell.get("cell_type")
    whole = _joined(cell.get("source", cell.get("input", "")))
    source = budget.some_of(whole, SOURCE_CHARACTERS)
    told: dict[str, Any] = {
        "kind": kind if kind in ("code", "markdown", "raw") else "markdown" if kind == "heading" else "raw",
        "source": source,
        "cut": len(source) < len(whole),
        "outputs": [],
    }
    if kind == "code":
        count = cell.get("execution_count", cell.get("prompt_number"))
        told["execution_count"] = count if isinstance(count, int) and not isinstance(count, bool) else None
        outputs = _list(cell.get("outputs"))
        told["outputs"] = [_output(one, budget) for one in outputs[:OUTPUTS] if isinstance(one, dict)]
        told["cut"] = told["cut"] or len(outputs) > OUTPUTS
    return told


def _output(output: dict[str, Any], budget: _Budget) -> dict[str, Any]:
    kind = output.get("output_type")
    if kind == "stream":
        is_error = output.get("name") == "stderr"
        return _as_text("text/plain", _joined(output.get("text", "")), budget, is_error=is_error)
    if kind in ("error", "pyerr"):
        lines = "\n".join(str(line) for line in _list(output.get("traceback")))
        said = lines or f"{output.get('ename', '')}: {output.get('evalue', '')}"
        return _as_text("text/plain", said, budget, is_error=True)
    given = output.get("data")
    data: dict[str, Any] = given if isinstance(given, dict) else _old_data(output)
    for media_type in IMAGES:
        image = _image(media_type, data.get(media_type), budget)
        if image is not None:
            return {"kind": "image", "media_type": media_type, "data": image}
    for media_type in TEXTS:
        if media_type in data:
            value = data[media_type]
            text = _joined(value) if isinstance(value, str | list) else json.dumps(value)[:OUTPUT_CHARACTERS]
            return _as_text(media_type, text, budget)
    return _as_text("text/plain", "(This output cannot be shown here.)", budget)


def _as_text(media_type: str, text: str, budget: _Budget, *, is_error: bool = False) -> dict[str, Any]:
    clean = ESCAPES.sub("", text[: 2 * OUTPUT_CHARACTERS])
    shown = budget.some_of(clean, OUTPUT_CHARACTERS)
    return {
        "kind": "error" if is_error else "text",
        "media_type": media_type,
        "text": shown,
        "cut": len(text) > 2 * OUTPUT_CHARACTERS or len(shown) < len(clean),
    }


def _image(media_type: str, value: Any, budget: _Budget) -> str | None:
    """In base64, when it is what it says, and there is room for it."""
    if not isinstance(value, str | list):
        return None
    try:
        image = base64.b64decode("".join(_joined(value).split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    if not image.startswith(MAGIC[media_type]) or len(image) > budget.images:
        return None
    budget.images -= len(image)
    return base64.b64encode(image).decode("ascii")


def _old_data(output: dict[str, Any]) -> dict[str, Any]:
    """Of nbformat 3, by the names of today."""
    names = {"png": "image/png", "jpeg": "image/jpeg", "text": "text/plain", "html": "text/html", "latex": "text/latex"}
    return {new: output[old] for old, new in names.items() if old in output}


def _language(read: dict[str, Any]) -> str:
    about = read.get("metadata")
    for name in ("language_info", "kernelspec"):
        one = about.get(name) if isinstance(about, dict) else None
        if isinstance(one, dict):
            found = one.get("name" if name == "language_info" else "language")
            if isinstance(found, str):
                return HALVES.sub("\ufffd", found[:40])
    return ""


def _joined(value: Any) -> str:
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

"""Jinja2 set up for the pages: strict, auto-escaping, with the filters and the address of static files."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cache
from pathlib import Path

import jinja2

from ...domain.sizes import describe_bytes, describe_cpus, describe_days, format_bytes
from . import words

WEB = Path(__file__).resolve().parent.parent
TEMPLATES = WEB / "templates"
STATIC = WEB / "static"


@cache
def static_version() -> str:
    """Changes with any static file; it stands in their path, so browsers may keep them for good."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def static_url(name: str) -> str:
    return f"/static/{static_version()}/{name}"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def environment() -> jinja2.Environment:
    """A name that a template uses and nobody passed raises, rather than showing an empty place."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "size": describe_bytes,
        "size_value": format_bytes,
        "cores": describe_cpus,
        "days": describe_days,
        "left": words.left_in_words,
        "ago": words.ago_in_words,
        "exact": words.exact,
        "iso": _iso,
        "device": words.device_in_words,
    }
    env.globals |= {"static": static_url}
    return env

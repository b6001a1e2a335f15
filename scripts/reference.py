"""Writes docs/reference/settings.md and api.md from the code, and the proofs into the pages that `proofs.py` names.

`--check` compares instead. See scripts/reference.
"""

from __future__ import annotations

import difflib
import enum
import json
import os
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from fastapi.routing import iter_route_contexts
from proofs import PAGES, filled_in
from pydantic import BaseModel, EmailStr, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import launchpad
from launchpad.settings import (
    EnvironmentSettings,
    IdleRuleSettings,
    LabCapacitySettings,
    MountSettings,
    OfferSettings,
    SafeModeSettings,
    Settings,
    tables,
    values,
)
from launchpad.web.app import create_app
from launchpad.web.deps import allow_public, require_admin, require_user
from launchpad.wiring import build_platform

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
NOTICE = "<!-- Written by scripts/reference from the code; change it there. -->\n"

# -- settings ----------------------------------------------------------------------------------------------------------

KINDS: dict[Any, str] = {
    values.Size: "size",
    values.Secret: "secret text",
    values.Origin: "origin",
    values.InstancesUrl: "origin, or a pattern of origins",
    values.EgressTarget: "address or range, with a port or without",
    values.Ipv4Range: "address or range",
    values.ProxyAddress: "address or range",
    values.Domain: "domain",
    values.Address: "e-mail address",
    values.WholePath: "whole path",
    values.PortRange: "two ports",
    values.GpuChoice: '`"all"`, a number, or a list of ids',
    values.Name: "name",
    values.AbsolutePath: "whole path",
    values.HealthPath: "path",
    values.Ids: "uid:gid",
    values.HeaderName: "header name",
    values.FolderName: "folder name",
    values.Capability: "capability",
}
WORDS_OF_VALIDATORS = {kind.__metadata__[0].func: words for kind, words in KINDS.items()}
PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}


def words_of(kind: Any, metadata: tuple[Any, ...] = ()) -> str:
    """A type as an administrator would name it."""
    if get_origin(kind) is Annotated:
        inner, *more = get_args(kind)
        return words_of(inner, (*more, *metadata))
    for one in metadata:
        if words := WORDS_OF_VALIDATORS.get(getattr(one, "func", None)):
            return words
    if get_origin(kind) in (Union, types.UnionType):
        members = [member for member in get_args(kind) if member is not type(None)]
        return " or ".join(words_of(member, metadata if member in PLAIN else ()) for member in members)
    if get_origin(kind) is Literal:
        return " or ".join(f'`"{member}"`' for member in get_args(kind))
    if get_origin(kind) is tuple:
        return "list: " + words_of(get_args(kind)[0])
    if get_origin(kind) is dict:
        return "table: " + " → ".join(words_of(one) for one in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return " or ".join(f'`"{member.value}"`' for member in kind)
    if kind is EmailStr:
        return "e-mail address"
    if kind is SecretStr:
        return "secret text"
    return PLAIN[kind] + bounds_of(metadata)


def bounds_of(metadata: tuple[Any, ...]) -> str:
    low = next((str(one.ge) for one in metadata if isinstance(one, Ge)), None)
    high = next((str(one.le) for one in metadata if isinstance(one, Le)), None)
    above = next((str(one.gt) for one in metadata if isinstance(one, Gt)), None)
    below = next((str(one.lt) for one in metadata if isinstance(one, Lt)), None)
    longest = next((str(one.max_length) for one in metadata if isinstance(one, MaxLen)), None)
    parts = [f"{low} to {high}" if low and high else f"from {low}" if low else f"at most {high}" if high else ""]
    parts += [f"above {above}" if above else "", f"below {below}" if below else ""]
    parts += [f"at most {longest} characters" if longest else ""]
    parts += ["not empty" if any(isinstance(one, MinLen) for one in metadata) else ""]
    told = ", ".join(part for part in parts if part)
    return f", {told}" if told else ""


def default_of(field: FieldInfo, written: Any) -> str:
    if field.is_required():
        return "*needed*"
    default = field.get_default(call_default_factory=True)
    if default in (None, "", (), {}) or default is PydanticUndefined:
        return ""
    return f"`{json.dumps(written, ensure_ascii=False)}`"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def settings_table(model: type[BaseModel], prefix: str | None, written: dict[str, Any]) -> Iterator[str]:
    """Rows for every key that is no table of its own; with `prefix`, the variables' names too."""
    variables = prefix is not None
    yield "| key | " + ("variable | " if variables else "") + "type | default | |"
    yield "|---|" + ("---|" if variables else "") + "---|---|---|"
    for name, field in model.model_fields.items():
        if is_table(field):
            continue
        if not field.description:
            raise SystemExit(f"{model.__name__}.{name} has no description")
        variable = f"`{prefix}{name.upper()}` | " if variables else ""
        kind = words_of(field.annotation, tuple(field.metadata))
        default = default_of(field, written.get(name))
        yield f"| `{name}` | {variable}{cell(kind)} | {cell(default)} | {cell(field.description)} |"


def is_table(field: FieldInfo) -> bool:
    kinds = (field.annotation, *get_args(field.annotation))
    return any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)


def settings_page() -> str:
    lines = [NOTICE, INTRODUCTION, "## Top level", ""]
    defaults = Settings().model_dump(mode="json")
    lines += [*settings_table(Settings, "LAUNCHPAD_", defaults), ""]
    for section, field in Settings.model_fields.items():
        model = field.annotation
        if not isinstance(model, type) or not issubclass(model, BaseModel):
            continue
        lines += [f"## [{section}]", "", cell(model.__doc__ or ""), ""]
        lines += [*settings_table(model, f"LAUNCHPAD_{section.upper()}__", defaults[section]), ""]
        for name, inner in model.model_fields.items():
            kind = inner.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                lines += [f"### [{section}.{name}]", "", cell(kind.__doc__ or ""), ""]
                prefix = f"LAUNCHPAD_{section.upper()}__{name.upper()}__"
                lines += [*settings_table(kind, prefix, defaults[section][name]), ""]
    lines += ["## [[mounts]]", "", cell(MountSettings.__doc__ or ""), "As a variable: `LAUNCHPAD_MOUNTS`, in JSON.", ""]
    lines += [*settings_table(MountSettings, None, plain_defaults(MountSettings)), ""]
    lab_capacity = "As a variable: `LAUNCHPAD_LAB_CAPACITY`, in JSON."
    lines += ["## [[lab_capacity]]", "", cell(LabCapacitySettings.__doc__ or ""), lab_capacity, ""]
    lines += [*settings_table(LabCapacitySettings, None, plain_defaults(LabCapacitySettings)), ""]
    idle_rules = "As a variable: `LAUNCHPAD_IDLE_RULES`, in JSON."
    lines += ["## [[idle_rules]]", "", cell(IdleRuleSettings.__doc__ or ""), idle_rules, ""]
    lines += [*settings_table(IdleRuleSettings, None, plain_defaults(IdleRuleSettings)), ""]
    lines += ["## [[environments]]", "", cell(EnvironmentSettings.__doc__ or ""), ENVIRONMENTS]
    lines += [*settings_table(EnvironmentSettings, None, plain_defaults(EnvironmentSettings)), ""]
    lines += ["### [environments.offer]", "", cell(OfferSettings.__doc__ or ""), ""]
    lines += [*settings_table(OfferSettings, None, plain_defaults(OfferSettings)), ""]
    lines += ["### [environments.safe_mode]", "", cell(SafeModeSettings.__doc__ or ""), ""]
    lines += [*settings_table(SafeModeSettings, None, plain_defaults(SafeModeSettings)), ""]
    shipped = Path(launchpad.__file__).with_name("environments.toml").read_text(encoding="utf-8")
    lines += ["### What ships", "", "```toml", shipped.rstrip(), "```", ""]
    return "\n".join(lines)


def plain_defaults(model: type[BaseModel]) -> dict[str, Any]:
    fields = {name: field for name, field in model.model_fields.items() if not field.is_required()}
    return {name: field.get_default(call_default_factory=True) for name, field in fields.items()}


INTRODUCTION = """# Settings

One TOML file: the one `--config` names, else `LAUNCHPAD_CONFIG`, else `/etc/launchpad/launchpad.toml` where it exists.
Every key has a default, so the file holds only what you change:

```toml
public_url = "https://lab.institute.edu"
instances_url = "https://lab.institute.edu:8443"
admin_emails = ["you@institute.edu"]

[sign_in]
allowed_domains = ["institute.edu"]
```

A variable beats the file: `LAUNCHPAD_SIGN_IN__CODE_MINUTES=5`. Lists and tables are written as JSON in variables:
`LAUNCHPAD_ADMIN_EMAILS='["you@institute.edu"]'`. A mistake stops the start with the file, the line and the key, or the
variable.

A *size* is written like `512m`, `8g` or `1.5t`, in steps of 1024. A *secret text* is never shown, and a placeholder
such as `change-me` is refused.
"""

ENVIRONMENTS = """
A table whose `name` is that of a shipped entry changes single keys of it; tables inside it are merged key by key.
Another name adds an entry. `enabled = false` takes one off the dashboard. As a variable:
`LAUNCHPAD_ENVIRONMENTS`, in JSON.
"""

# -- the API -----------------------------------------------------------------------------------------------------------

ACCESSES = {allow_public: "public", require_user: "user", require_admin: "admin"}
METHODS = ("get", "post", "put", "patch", "delete")


def access_of(dependant: Any) -> str:
    """The strictest access that a route's dependencies declare."""
    found = {ACCESSES.get(dependant.call, "")} | {access_of(inner) for inner in dependant.dependencies}
    return next((access for access in ("admin", "user", "public") if access in found), "")


def shape(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(shape(one) for one in schema["anyOf"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(one, ensure_ascii=False)}`" for one in schema["enum"])
    if schema.get("type") == "array":
        return "list of " + shape(schema.get("items", {}))
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    kind = {"date-time": "instant"}.get(schema.get("format", ""), words.get(schema.get("type", ""), ""))
    kind = kind or schema.get("type") or "anything"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        kind += f", {low} to {high}" if None not in (low, high) else f", from {low}" if high is None else f", to {high}"
    return str(kind)


def call_section(path: str, method: str, call: dict[str, Any], access: str) -> Iterator[str]:
    yield f"### {method.upper()} {path}"
    yield ""
    yield f"For: {access}. {cell(call.get('description') or call['summary'])}"
    yield ""
    for parameter in call.get("parameters", ()):
        if parameter["in"] == "query":
            default = parameter["schema"].get("default")
            told = f" (default `{json.dumps(default)}`)" if default is not None else ""
            yield f"- `?{parameter['name']}=`: {shape(parameter['schema'])}{told}"
    if "requestBody" in call:
        content = next(iter(call["requestBody"]["content"].values()))
        yield f"- body: {shape(content['schema'])}"
    for status, answer in call["responses"].items():
        if status.startswith(("2", "3")):
            content = answer.get("content", {})
            what = [
                shape(one["schema"]) if one.get("schema") and kind == "application/json" else kind
                for kind, one in content.items()
            ]
            yield f"- answer: {status}" + (f", {', '.join(what)}" if what else "")
    yield ""


def shape_section(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}"
    yield ""
    if schema.get("description"):
        yield cell(schema["description"])
        yield ""
    if "enum" in schema:
        yield shape(schema)
        yield ""
        return
    yield "| field | | |"
    yield "|---|---|---|"
    for field, inner in schema.get("properties", {}).items():
        needed = "" if field in schema.get("required", ()) else "optional"
        told = inner.get("description", "")
        yield f"| `{field}` | {cell(shape(inner))} | {cell(', '.join(one for one in (needed, told) if one))} |"
    yield ""


def api_page() -> str:
    with tempfile.TemporaryDirectory() as folder:
        settings = {"state_dir": folder, "engine": {"runtime": "fake"}, "homes": {"root": folder, "driver": "plain"}}
        app = create_app(build_platform(tables(settings)))
    document = app.openapi()
    access = {
        (method.lower(), route.path): access_of(route.dependant)
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
    }
    lines = [NOTICE, API_INTRODUCTION]
    for path, calls in document["paths"].items():
        for method in (one for one in METHODS if one in calls):
            lines += call_section(path, method, calls[method], access[method, path])
    lines += ["## Shapes", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += shape_section(name, schema)
    return "\n".join(lines)


API_INTRODUCTION = """# The API

The machine-readable description is `/api/v1/openapi.json` of a running platform.

A call is authorised by the login cookie or by `Authorization: Bearer lp_…` with a personal token. With the cookie,
every call that changes something carries `X-CSRF-Token`, whose value is in `GET /api/v1/me`. Errors are
`application/problem+json` (RFC 9457) with a [Problem](#problem): 401 nobody is signed in, 403 not allowed, 404 not
there or somebody else's, 409 not possible in the current state or with the quota, 422 bad input with its fields,
429 too many tries, 503 not right now.

## Calls
"""

# -- both --------------------------------------------------------------------------------------------------------------


def main() -> int:
    pages = {"settings.md": settings_page(), "api.md": api_page()} | {
        os.path.relpath(page, REFERENCE): filled_in(page) for page in PAGES
    }
    outdated = 0
    for name, text in pages.items():
        path = REFERENCE / name
        written = path.read_text(encoding="utf-8") if path.exists() else ""
        if sys.argv[1:] == ["--check"]:
            lines = difflib.unified_diff(
                written.splitlines(), text.splitlines(), name, "from the code", lineterm="", n=1
            )
            sys.stdout.writelines(f"{line}\n" for line in lines)
            outdated += written != text
        else:
            REFERENCE.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if outdated:
        sys.stdout.write("docs/reference is out of date; run ./scripts/reference\n")
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main())

"""The house rules of CONTRIBUTING.md, as far as a test can hold them, over the source of the program."""

from __future__ import annotations

import ast
import asyncio
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import pytest
from fastapi import FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts

import launchpad
from launchpad.platform import Platform
from launchpad.settings import tables
from launchpad.web import deps
from launchpad.web.app import create_app
from launchpad.web.deps import allow_public, require_admin, require_user
from launchpad.wiring import build_platform

PACKAGE = Path(launchpad.__file__).parent
ROOT = Path(__file__).parents[2]
MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
LONGEST_MODULE = 400

# Where everything may be caught: the web handler, one item of a sweep, the command line's main.
BOUNDARIES = {"web/problems.py", "services/sweep.py", "cli/main.py"}
# What answers late or not at all: no transaction waits for it.
SLOW = {"runtime", "mail", "mailer", "homes", "images", "launcher", "engine", "http", "docker"}
SLOW_CALLS = {"sleep", "to_thread", "gather", "wait", "wait_for", "create_subprocess_exec"}
# Tables that a module reads but does not own: the gate decides with one query, a list is one of several tables,
# admission asks what is held for which lab, and members of labs are users.
JOINS = {
    "store/gate.py": {"instances", "logins", "users"},
    "store/held.py": {"instances", "users"},
    "store/home_listings.py": {"home_use", "users"},
    "store/labs.py": {"users"},
    "store/listings.py": {"instance_history", "instances", "users"},
}


@cache
def text_of(name: str) -> str:
    return MODULES[name].read_text(encoding="utf-8")


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(text_of(name), name)


@cache
def nodes_of(name: str) -> list[ast.AST]:
    return list(ast.walk(tree_of(name)))


def everywhere(*, below: tuple[str, ...] = ("",)) -> Iterator[tuple[str, ast.AST]]:
    """Every node of every module in those folders, with the module's name: read once for all rules."""
    for name in MODULES:
        if name.startswith(below):
            yield from ((name, node) for node in nodes_of(name))


def imported(name: str) -> Iterator[tuple[str, str, int]]:
    """Module, name and line of every import; relative ones begin with dots."""
    for node in nodes_of(name):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((module, alias.name, node.lineno) for alias in node.names)


def words(node: ast.AST) -> set[str]:
    """Every name and attribute in an expression, without leading underscores."""
    found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    found |= {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    return {word.lstrip("_") for word in found}


def called(node: ast.AST) -> str:
    """`move` of `instances.move(…)`, `select` of `select(…)`."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            return node.func.attr
        if isinstance(node.func, ast.Name):
            return node.func.id
    return ""


def test_sql_is_written_in_the_store_only() -> None:
    """From SQLAlchemy, others take the type of a connection and nothing to make queries with."""
    wrong = [
        f"{name}:{line} imports {what} of {module}"
        for name in MODULES
        if not name.startswith("store/")
        for module, what, line in imported(name)
        if module.split(".")[0] in ("sqlalchemy", "alembic", "aiosqlite", "sqlite3", "asyncpg")
        and (module, what) != ("sqlalchemy.ext.asyncio", "AsyncConnection")
    ]
    assert wrong == []


def test_every_table_belongs_to_one_module_and_only_that_one_changes_it() -> None:
    owners: dict[str, str] = {}
    for name in (name for name in MODULES if re.fullmatch(r"store/[a-z_]+\.py", name)):
        tree = tree_of(name)
        own = set()
        for made in tree.body:
            if isinstance(made, ast.Assign) and called(made.value) == "Table":
                assert isinstance(made.value, ast.Call)
                assert isinstance(made.value.args[0], ast.Constant)
                assert isinstance(made.targets[0], ast.Name)
                owners[str(made.value.args[0].value)] = name
                own.add(made.targets[0].id)
        for node in nodes_of(name):
            if isinstance(node, ast.Call) and called(node) in ("insert", "update", "delete"):
                table = node.args[0]
                assert isinstance(table, ast.Name), f"{name}:{node.lineno}"
                assert table.id in own, f"{name}:{node.lineno} changes a table that is not its own"
            if isinstance(node, ast.Attribute) and node.attr == "table":
                assert isinstance(node.value, ast.Name)
                assert node.value.id in JOINS.get(name, set()), f"{name}:{node.lineno} reads another module's table"
    from launchpad.store.database import metadata

    assert set(owners) == set(metadata.tables)


def test_no_transaction_waits_for_engine_mail_or_disk() -> None:
    """Neither inside `async with ….transaction()` nor in a function that is handed its connection."""
    wrong: list[str] = []
    for name, block in everywhere():
        if isinstance(block, ast.AsyncWith):
            inside = any(called(item.context_expr) == "transaction" for item in block.items)
        elif isinstance(block, ast.AsyncFunctionDef):
            arguments = [*block.args.args, *block.args.kwonlyargs]
            inside = any(one.annotation and "AsyncConnection" in words(one.annotation) for one in arguments)
        else:
            continue
        if inside:
            wrong += (f"{name}:{complaint}" for complaint in waits_in(block.body))
    assert wrong == []


def waits_in(body: list[ast.stmt]) -> Iterator[str]:
    for node in (node for part in body for node in ast.walk(part)):
        if isinstance(node, ast.Await):
            what = node.value.func if isinstance(node.value, ast.Call) else node.value
            if words(what) & SLOW:
                yield f"{node.lineno} awaits {ast.unparse(what)} in a transaction"
            if called(node.value) in SLOW_CALLS:
                yield f"{node.lineno} waits in a transaction"
        if isinstance(node, ast.AsyncWith) and any(called(item.context_expr) == "transaction" for item in node.items):
            yield f"{node.lineno} opens a transaction inside another"


def test_everything_is_caught_at_the_listed_boundaries_only() -> None:
    wrong = []
    for name, node in everywhere():
        if isinstance(node, ast.ExceptHandler):
            kinds = words(node.type) if node.type is not None else {"BaseException"}
            if kinds & {"Exception", "BaseException"} and name not in BOUNDARIES:
                wrong.append(f"{name}:{node.lineno} catches everything")
        if isinstance(node, ast.Call) and called(node) == "suppress" and words(node) & {"Exception", "BaseException"}:
            wrong.append(f"{name}:{node.lineno} hides everything")
    assert wrong == []


def test_every_error_of_ours_comes_from_the_tree_of_errors() -> None:
    wrong = []
    for name, node in everywhere():
        if name == "errors.py":
            continue
        if isinstance(node, ast.ClassDef):
            bases = set().union(*map(words, node.bases)) if node.bases else set()
            if any(base.endswith(("Error", "Exception")) for base in bases):
                wrong.append(f"{name}:{node.lineno} {node.name} is an error of its own")
        if isinstance(node, ast.Raise) and node.exc is not None:
            raised = called(node.exc) or ast.unparse(node.exc)
            if raised in ("Exception", "BaseException", "RuntimeError"):
                wrong.append(f"{name}:{node.lineno} raises {raised}")
    assert wrong == []


def test_http_stays_in_the_web() -> None:
    wrong = [
        f"{name}:{line} imports {what} of {module}"
        for name in MODULES
        if not name.startswith("web/")
        for module, what, line in imported(name)
        if module.split(".")[0] in ("fastapi", "starlette") or what == "HTTPException"
    ]
    assert wrong == []


def test_an_http_exception_is_never_raised() -> None:
    wrong = [
        f"{name}:{node.lineno}"
        for name, node in everywhere()
        if isinstance(node, ast.Raise) and node.exc is not None and called(node.exc) == "HTTPException"
    ]
    assert wrong == []


def test_variables_of_the_process_are_read_as_settings_only() -> None:
    """Others may hand them on to the programs they start, but ask for none of ours."""
    asks = re.compile(r"(getenv|environ\.get|environ)\s*[\[(]\s*[\"']LAUNCHPAD")
    assert [name for name in MODULES if not name.startswith("settings") and asks.search(text_of(name))] == []


def test_a_module_can_be_read_in_one_sitting() -> None:
    assert [name for name in MODULES if len(text_of(name).splitlines()) > LONGEST_MODULE] == []
    silent = [name for name in MODULES if text_of(name).strip() and not ast.get_docstring(tree_of(name))]
    assert silent == [], "a module says what it is for"


def test_time_is_passed_in() -> None:
    """Only the runner has a clock, which is handed to it: the end of what it carries out has to be recorded."""
    wrong = [
        f"{name}:{node.lineno}"
        for name, node in everywhere(below=("domain/", "services/", "store/"))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("datetime.now", "datetime.utcnow", "time.time")
        and name != "services/runner.py"
    ]
    assert wrong == []


def test_imports_point_one_way() -> None:
    """import-linter checks it in scripts/test; here, that its contract names every package there is."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = " | ".join(contract["contracts"][0]["layers"])
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages <= {layer.removeprefix("launchpad.") for layer in layers.split(" | ")}
    assert "lint-imports" in (ROOT / "scripts" / "test").read_text(encoding="utf-8")
    for name in (name for name in MODULES if name.startswith("domain/")):
        for module, _, line in imported(name):
            assert not module.startswith(".."), f"{name}:{line}: the domain imports nothing of the project"


# -- routes ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    folder = tmp_path_factory.mktemp("rules")
    settings = {"state_dir": folder, "engine": {"runtime": "fake"}, "homes": {"root": folder, "driver": "plain"}}
    return create_app(build_platform(tables(settings)))


def accesses(dependant: Dependant) -> set[str]:
    """The accesses that a route's dependencies declare."""
    markers = {allow_public: "public", require_user: "user", require_admin: "admin"}
    found = {markers[dependant.call]} if dependant.call in markers else set()
    return found.union(*(accesses(inner) for inner in dependant.dependencies))


def routes(app: FastAPI) -> list[RouteContext]:
    return list(iter_route_contexts(app.routes))


def test_every_route_declares_who_may_call_it(app: FastAPI) -> None:
    assert len(routes(app)) > 30
    for route in routes(app):
        dependant = getattr(route, "dependant", None)
        assert isinstance(dependant, Dependant), f"{route.path} is no route of ours, so nothing declares its access"
        declared = accesses(dependant)
        assert declared in ({"public"}, {"user"}, {"user", "admin"}), f"{route.methods} {route.path}: {declared}"


def test_what_is_the_administrators_stands_below_admin_and_the_other_way_round(app: FastAPI) -> None:
    for route in routes(app):
        is_admins = "admin" in accesses(route.dependant)
        assert is_admins is bool(re.match(r"(/api/v1)?/admin(/|$)", route.path or "")), route.path


# Who may have the whole platform: what builds the app and its dependencies, and two routes that look at all of it or
# are asked at every request of an instance.
WHOLE_PLATFORM = {"web/app.py", "web/deps.py", "web/health.py", "web/metrics.py", "web/gate.py"}


def calls(dependant: Dependant) -> Iterator[Any]:
    """A route's endpoint and everything that it depends on."""
    yield dependant.call
    for inner in dependant.dependencies:
        yield from calls(inner)


def test_routes_take_the_services_they_use_and_not_the_whole_platform(app: FastAPI) -> None:
    taken = 0
    for route in routes(app):
        for call in calls(route.dependant):
            hints = get_type_hints(call)
            assert Platform not in hints.values(), f"{route.path}: {call.__qualname__}"
            taken += any(
                str(getattr(kind, "__module__", "")).startswith("launchpad.services") for kind in hints.values()
            )
    assert taken > 50, "routes name what they use"


def test_the_whole_platform_is_at_hand_where_it_has_to_be_only() -> None:
    others = [name for name in MODULES if name.startswith("web/") and name not in WHOLE_PLATFORM]
    takes = re.compile(r"\bplatform_of\b|\bPlatform\b|state\.platform")
    assert [name for name in others if takes.search(text_of(name))] == []


def test_every_dependency_gives_the_part_that_it_names(app: FastAPI) -> None:
    request = Request({"type": "http", "app": app, "headers": []})
    parts = {name: hint for name, hint in vars(deps).items() if "part" in repr(getattr(hint, "__metadata__", ""))}
    assert len(parts) > 12
    for name, hint in parts.items():
        given = asyncio.run(hint.__metadata__[0].dependency(request))
        kind = get_origin(hint.__origin__) or hint.__origin__
        assert isinstance(given, kind), f"{name} gives {type(given)}"


def test_no_route_stands_twice(app: FastAPI) -> None:
    seen = [(method, route.path) for route in routes(app) for method in route.methods or ()]
    assert len(seen) == len(set(seen))


def test_what_changes_something_is_no_get(app: FastAPI) -> None:
    """Routes named after a change answer to POST, PUT, PATCH or DELETE only."""
    for route in routes(app):
        last = (route.path or "").rsplit("/", 1)[-1]
        if last in ("stop", "extend", "sign-out", "launch", "revoke", "forget", "delete"):
            assert not {"GET", "HEAD"} & set(route.methods or ()), route.path

"""What every table's module declares itself with: the metadata, and the type of an instant."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Boolean, ColumnElement, DateTime, Dialect, MetaData, String, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement, GenericFunction
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime. SQLite keeps no zone, so it is taken off on the way in and put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("instants are aware; this one has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class lower_of_any_letter(GenericFunction[str]):  # noqa: N801 - a function of SQL
    """`lower()`, which on SQLite knows the letters A to Z alone; `Database` adds one that knows all."""

    type = String()
    inherit_cache = True


@compiles(lower_of_any_letter)
def _lower(function: Any, compiler: Any, **options: Any) -> str:
    return f"lower{compiler.function_argspec(function, **options)}"


@compiles(lower_of_any_letter, "sqlite")
def _lower_on_sqlite(function: Any, compiler: Any, **options: Any) -> str:
    return f"lower_of_any_letter{compiler.function_argspec(function, **options)}"


class _like_in_any_case(FunctionElement[bool]):  # noqa: N801 - an operator of SQL
    """Column and pattern. It takes the letters A to Z as equal in both cases."""

    type = Boolean()
    inherit_cache = True


@compiles(_like_in_any_case)
def _like(element: Any, compiler: Any, **options: Any) -> str:
    column, pattern = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} ILIKE {pattern} ESCAPE '/'"


@compiles(_like_in_any_case, "sqlite")
def _like_on_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    column, pattern = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} LIKE {pattern} ESCAPE '/'"  # a third of what lower() costs


def contains(column: ColumnElement[Any], wanted: str) -> ColumnElement[bool]:
    """Whether the text of a column has `wanted` in it, in whatever case; `%` and `_` are ordinary characters."""
    if not wanted.isascii():
        return lower_of_any_letter(column).contains(wanted.lower(), autoescape=True)
    escaped = wanted.replace("/", "//").replace("%", "/%").replace("_", "/_")
    return _like_in_any_case(column, literal(f"%{escaped}%", String()))

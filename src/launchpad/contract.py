"""Contracts whose verbs may be asked for in another process: each verb is declared once, as a method of a Protocol.

What asks the privileged helper (`helper_client.asking`), what checks and answers in it (`helper.verbs`) and the tests
of completeness follow from the declaration: the method's name, its arguments with their form and bounds (pydantic's
`Annotated`), what it answers with, and what `verb` says besides.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model
from pydantic_core import to_jsonable_python

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__verb__"
# As sent, or not at all: nothing is guessed from another type, and a name that is not declared is refused.
_STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True)
class _Marked:
    seconds: float | None
    longer_by: str | None
    moment: str | None
    refusal: str | None


def verb(*, seconds: float | None = None, longer_by: str | None = None, moment: str | None = None) -> Callable[[F], F]:
    """Declares a method as something that the helper may be asked for.

    Args:
        seconds: the patience with the answer, where it is not the usual one.
        longer_by: the argument, in seconds, by which that is longer.
        moment: the argument that is the instant of the call, in seconds since 1970, where none is given.
    """
    return _marking(_Marked(seconds, longer_by, moment, None))


def by_root_only(refusal: str) -> Callable[[F], F]:
    """Declares a method as something that the helper cannot be asked for; whoever tries gets `refusal` as an error."""
    return _marking(_Marked(None, None, None, refusal))


def _marking(marked: _Marked) -> Callable[[F], F]:
    def mark(method: F) -> F:
        setattr(method, _MARK, marked)
        return method

    return mark


@dataclass(frozen=True)
class Verb:
    """One method of a contract, as it was declared."""

    method: str
    declared: Callable[..., Any]
    marked: _Marked

    @property
    def name(self) -> str:
        """What it is called on the way: `list-containers`."""
        return self.method.replace("_", "-")

    @property
    def refusal(self) -> str | None:
        """Why nobody but root may; None: the helper can be asked for it."""
        return self.marked.refusal

    @property
    def is_stream(self) -> bool:
        """Whether it answers with one thing after the other, without an end."""
        return get_origin(self._hints["return"]) is AsyncIterator

    @cached_property
    def signature(self) -> inspect.Signature:
        """Without the object whose method it is."""
        whole = inspect.signature(self.declared)
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    def arguments(self, *given: Any, **named: Any) -> dict[str, Any]:
        """The arguments of a call by their names, defaults put in, as JSON has them."""
        bound = self.signature.bind(*given, **named)
        bound.apply_defaults()
        if self.marked.moment is not None and bound.arguments[self.marked.moment] is None:
            bound.arguments[self.marked.moment] = time.time()
        plain: dict[str, Any] = to_jsonable_python(dict(bound.arguments))
        return plain

    def seconds(self, arguments: Mapping[str, Any]) -> float | None:
        """The patience with a call; None: the usual one."""
        if self.marked.seconds is None or self.marked.longer_by is None:
            return self.marked.seconds
        return self.marked.seconds + float(arguments[self.marked.longer_by])

    def read(self, body: bytes) -> dict[str, Any]:
        """The arguments out of a call's JSON, whose form and bounds have been checked.

        Raises:
            pydantic.ValidationError: they are not as declared; none is guessed, and none is left over.
        """
        read = self._form.model_validate_json(body)
        return {name: getattr(read, name) for name in self._form.model_fields}

    def answer(self, plain: Any) -> Any:
        """What was answered (of a stream: one thing of it), out of what JSON has.

        Raises:
            pydantic.ValidationError: it is nothing that this verb answers with.
        """
        return self._answer.validate_python(plain)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.declared, include_extras=True)

    @cached_property
    def _form(self) -> type[BaseModel]:
        fields: dict[str, Any] = {
            name: (self._hints[name], ... if parameter.default is parameter.empty else parameter.default)
            for name, parameter in self.signature.parameters.items()
        }
        return create_model(self.method, __config__=_STRICT, **fields)

    @cached_property
    def _answer(self) -> TypeAdapter[Any]:
        told = self._hints["return"]
        return TypeAdapter(get_args(told)[0] if self.is_stream else told)


def verbs_of(contract: type) -> Sequence[Verb]:
    """What a contract declares, in the order of its declaration."""
    return [
        Verb(name, method, getattr(method, _MARK))
        for name, method in vars(contract).items()
        if callable(method) and hasattr(method, _MARK)
    ]

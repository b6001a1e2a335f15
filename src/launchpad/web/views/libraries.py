"""How people are told that another version of R or Python leaves behind what they have installed, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...domain.environments import Environment
from ...domain.libraries import LibraryChange, R


@dataclass(frozen=True)
class LibraryNotice:
    """Attributes:
    text: what happened.
    steps: where the command is typed.
    command: installs the same packages again.
    """

    key: str
    text: str
    steps: str
    command: str


def library_notices(
    changes: Sequence[LibraryChange], catalogue: Mapping[str, Environment]
) -> tuple[LibraryNotice, ...]:
    return tuple(_notice(one, catalogue[one.environment].title) for one in changes)


def _notice(change: LibraryChange, title: str) -> LibraryNotice:
    language, before, now = change.language, change.before, change.now
    packages = "One package" if change.packages == 1 else f"{change.packages} packages"
    are = "is" if change.packages == 1 else "are"
    text = (
        f"{title} has {language} {now} now. {packages} that you installed for {language} {before} {are} still in your "
        f"home folder, but {language} {now} does not use them."
    )
    if language == R:
        steps = "To install the same packages again, type into the R console:"
        command = (
            f'install.packages(setdiff(basename(Sys.glob("~/R/*-library/{before}/*")), rownames(installed.packages())))'
        )
    else:
        steps = "To install the same packages again, type into a terminal:"
        command = (
            f"pip freeze --path ~/.local/lib/python{before}/site-packages > packages.txt && pip install -r packages.txt"
        )
    return LibraryNotice(change.key, text, steps, command)

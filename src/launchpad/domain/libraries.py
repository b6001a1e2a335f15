"""Libraries of packages in a home, and the versions of R and Python that no longer look into them.

R has a library for each x.y, and so has Python: another version in an image leaves what was installed where nothing
finds it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

R, PYTHON = "R", "Python"

# By languages: how many packages there are for each version.
Libraries = Mapping[str, Mapping[str, int]]
# By environments and languages: the versions that images had, the one of now last.
Versions = Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True)
class LibraryChange:
    """What was installed for `before` is not used by the environment, whose image has `now`."""

    environment: str
    language: str
    before: str
    now: str
    packages: int

    @property
    def key(self) -> str:
        """The same for as long as it is the same change."""
        return f"{self.environment} {self.language} {self.before} {self.now}"


def changes_of(libraries: Libraries, versions: Versions, used: Collection[str]) -> tuple[LibraryChange, ...]:
    """What somebody should know of the environments that they use.

    A library is told of where the environment had its version before, or where no environment has it any more: a
    library that was only ever another environment's is not missed in this one. Nothing is told once there are packages
    for the version of now.
    """
    found = []
    for environment in (one for one in versions if one in used):
        for language, known in versions[environment].items():
            own = {version: number for version, number in libraries.get(language, {}).items() if number}
            now = known[-1]
            if now in own:
                continue
            elsewhere = {each[language][-1] for each in versions.values() if language in each}
            left = [version for version in own if version in known or version not in elsewhere]
            if left:
                before = max(left, key=place)
                found.append(LibraryChange(environment, language, before, now, own[before]))
    return tuple(found)


def place(version: str) -> tuple[int, ...]:
    """For sorting: 4.10 comes after 4.9."""
    return tuple(int(part) for part in version.split("."))

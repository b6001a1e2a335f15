"""What the platform's predecessor kept of people, and who they become here. Pure.

The predecessor (datascience-launchpad) named somebody's folder below `user_data` after the part of their address before
the @. So two people of one such part at two domains had one folder between them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from .signin import normalise_address

LAB_MAX = 100
ALIVE = ("running", "requested")


@dataclass(frozen=True)
class OriginalUser:
    """A row of its table `users`. `name` is the user name or, in its later versions, the address."""

    name: str
    email: str | None
    is_admin: bool
    lab: str | None
    created_at: datetime | None
    running: tuple[str, ...] = ()  # names of containers that are running, as far as its database knows


@dataclass(frozen=True)
class Person:
    """Somebody to bring over.

    Attributes:
        names: what the predecessor called them; more than one where spellings of one address had a row each.
        folders: names below `user_data` that can be theirs.
        shared: those of them that are other people's as well, so that nobody can tell whose files lie there.
    """

    address: str
    names: tuple[str, ...]
    was_admin: bool
    lab: str | None
    created_at: datetime | None
    running: tuple[str, ...]
    folders: tuple[str, ...]
    shared: tuple[str, ...] = ()


@dataclass(frozen=True)
class People:
    """Who can be brought over, by address; and whose address cannot be told, by the old name."""

    found: tuple[Person, ...]
    without_address: tuple[str, ...]


def people_of(
    users: Sequence[OriginalUser],
    *,
    domain: str | None = None,
    skipped: Collection[str] = (),
    assigned: Mapping[str, Collection[str]] | None = None,
) -> People:
    """Who the rows are.

    Args:
        domain: what comes behind the @ of user names that are no addresses.
        skipped: old names to leave out.
        assigned: folders, with the addresses of those whose they are; nobody else's then.
    """
    found: dict[str, Person] = {}
    owners: dict[str, set[str]] = {}
    without = []
    for user in users:
        address = address_of(user, domain)
        for folder in folders_of(user, address):  # also of who is left out: their files are not the others' for that
            owners.setdefault(folder, set()).add(address or user.name)
        if user.name in skipped:
            continue
        if address is None:
            without.append(user.name)
            continue
        person = Person(
            address=address,
            names=(user.name,),
            was_admin=user.is_admin,
            lab=clean_lab(user.lab),
            created_at=user.created_at,
            running=user.running,
            folders=folders_of(user, address),
        )
        found[address] = _together(found[address], person) if address in found else person
    people = [found[address] for address in sorted(found)]
    return People(tuple(_claims(people, owners, assigned or {})), tuple(without))


def address_of(user: OriginalUser, domain: str | None) -> str | None:
    """The name where it is an address, else the e-mail column, else the name at `domain`."""
    texts = [user.name if "@" in user.name else None, user.email]
    texts.append(f"{user.name}@{domain}" if domain and "@" not in user.name else None)
    for text in filter(None, texts):
        try:
            return normalise_address(text)
        except ValueError:
            continue
    return None


def folders_of(user: OriginalUser, address: str | None = None) -> tuple[str, ...]:
    """The names that the folder can have: every version took the part before the @, later ones in small letters.

    A site may have taken the whole address.
    """
    texts = [text for text in (user.name, user.email, address) if text]
    names = [name for text in texts for name in (text.partition("@")[0], text)]
    return tuple(dict.fromkeys(name for name in names if is_folder_name(name)))


def is_folder_name(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & {"/", "\0"}


def clean_lab(lab: str | None) -> str | None:
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in lab or "").split())
    return text[:LAB_MAX] or None


def _together(first: Person, second: Person) -> Person:
    """One person of two rows: whoever came first says the lab."""
    instants = [at for at in (first.created_at, second.created_at) if at is not None]
    return replace(
        first,
        names=(*first.names, *second.names),
        was_admin=first.was_admin or second.was_admin,
        lab=first.lab or second.lab,
        created_at=min(instants, default=None),
        running=(*first.running, *second.running),
        folders=tuple(dict.fromkeys((*first.folders, *second.folders))),
    )


def _claims(
    people: Sequence[Person], owners: Mapping[str, Collection[str]], assigned: Mapping[str, Collection[str]]
) -> list[Person]:
    claimed = []
    for person in people:
        given = [folder for folder, addresses in assigned.items() if person.address in addresses]
        own = [folder for folder in person.folders if folder not in assigned]
        shared = [folder for folder in own if len(owners[folder]) > 1]
        claimed.append(replace(person, folders=tuple(dict.fromkeys((*own, *given))), shared=tuple(shared)))
    return claimed

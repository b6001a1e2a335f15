"""Brings people over from the platform's predecessor: their accounts here, their files in `importing_files`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ..domain.original import People, Person
from ..domain.signin import domain_allowed, normalise_address
from ..domain.users import User
from ..errors import InvalidInput
from ..services import lab_membership
from ..services.audit import CLI
from ..services.offers import OfferService
from ..services.registration import add_user, on_disk
from ..settings import Settings
from ..storage.base import Homes
from ..store import audit, users
from ..store.database import Database

FEW = 8


class Standing(StrEnum):
    """What became of somebody's account, or in a rehearsal would become of it."""

    NEW = "new"
    THERE = "there already"
    REFUSED = "refused"


@dataclass(frozen=True)
class Account:
    """Where somebody's files go. `username` and `uid` are None for who has no account yet.

    Attributes:
        limit_bytes: what their home is limited to while the files are brought.
    """

    address: str
    standing: Standing
    username: str | None = None
    uid: int | None = None
    limit_bytes: int | None = None


def without_gaps(people: People) -> tuple[Person, ...]:
    """Everybody, once it is clear who they are.

    Raises:
        InvalidInput: some have no address.
    """
    if people.without_address:
        names = [repr(name) for name in people.without_address]
        shown = ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")
        raise InvalidInput(
            f"The e-mail addresses of these users are not known: {shown}. If all of them are at one domain, name it "
            "(--domain institute.edu); skip single ones with --skip NAME."
        )
    return people.found


def parse_assignments(texts: Sequence[str], people: Sequence[str]) -> dict[str, list[str]]:
    """`folder=address` as given to the command; a folder may be given to several people.

    Raises:
        InvalidInput: another form, or nobody of that address is brought over.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        folder, sign, address_text = text.rpartition("=")
        try:
            address = normalise_address(address_text)
        except ValueError:
            address = ""
        if not sign or not folder or not address:
            raise InvalidInput(f"“{text}” does not name the new owner; write --folder alice=alice@institute.edu.")
        if address not in people:
            raise InvalidInput(f"--folder {text}: no user with the address {address} is imported.")
        found.setdefault(folder, []).append(address)
    return found


class ImportService:
    def __init__(self, database: Database, settings: Settings, homes: Homes, offers: OfferService) -> None:
        self._database = database
        self._settings = settings
        self._homes = homes
        self._offers = offers

    async def rehearse(self, people: Sequence[Person]) -> list[Account]:
        """What `register` would do; nothing is written."""
        async with self._database.reading() as db:
            there = {person.address: await users.by_email(db, person.address) for person in people}
        return [await self._account(person, there[person.address]) for person in people]

    async def register(self, people: Sequence[Person], now: datetime, *, keep_admins: bool = False) -> list[Account]:
        """Adds who is not there yet, as their first sign-in would; who is there stays as they are.

        Args:
            keep_admins: the predecessor's administrators become administrators, also where `admin_emails` does not
                name them.
        """
        accounts = []
        for person in people:
            disk = await on_disk(self._homes, person.address)
            async with self._database.transaction() as db:
                user = await users.by_email(db, person.address)
                is_new = user is None and self._may(person)
                if is_new:
                    user = await add_user(
                        db,
                        self._settings,
                        person.address,
                        disk,
                        created_at=min(person.created_at or now, now),
                        as_admin=keep_admins and person.was_admin,
                    )
                    if person.lab is not None:
                        lab = await lab_membership.lab_called(db, person.lab, CLI, now)
                        await lab_membership.join(db, lab, user, now)
                    await audit.add(
                        db,
                        at=now,
                        actor=CLI.name,
                        client=CLI.client,
                        action="user.imported",
                        subject=user.email,
                        details={
                            "from": ", ".join(person.names)[:200],
                            "username": user.username,
                            "uid": user.uid,
                            "role": user.role,
                        },
                        owner_id=CLI.on(user.id),
                    )
            account = await self._account(person, user)
            accounts.append(account if not is_new else _as_new(account))
        return accounts

    async def record(self, brought: Mapping[str, Mapping[str, int]], now: datetime) -> None:
        """Writes down whose files were brought: by address, how many files and bytes."""
        async with self._database.transaction() as db:
            owners = await users.by_emails(db, set(brought))
            for address, counts in brought.items():
                await audit.add(
                    db,
                    at=now,
                    actor=CLI.name,
                    client=CLI.client,
                    action="home.imported",
                    subject=address,
                    details=counts,
                    owner_id=CLI.on(owners[address].id) if address in owners else None,
                )

    async def _account(self, person: Person, user: User | None) -> Account:
        if user is None:
            return Account(person.address, Standing.NEW if self._may(person) else Standing.REFUSED)
        # The most that they could choose at a launch, which sets the limit to what is chosen then.
        most = max((await self._offers.limits()).offer.storage_bytes)
        own = user.quota.storage_bytes
        limit = most if own is None else min(own, most)
        return Account(person.address, Standing.THERE, user.username, user.uid, limit)

    def _may(self, person: Person) -> bool:
        return domain_allowed(person.address, self._settings.sign_in.allowed_domains)


def _as_new(account: Account) -> Account:
    return Account(account.address, Standing.NEW, account.username, account.uid, account.limit_bytes)

"""What pages and the API show of instances, environments and homes: built here for both, from what is known.

Nothing here waits for the engine or the helper.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from datetime import datetime

from ...domain.ends import notices_of
from ...domain.environments import Environment
from ...domain.home_use import MeasuredUse
from ...domain.instances import Instance, State
from ...domain.limits import Limits, Offer, Use
from ...domain.paging import Place
from ...domain.usage import Usage
from ...domain.users import User
from ...errors import EngineUnavailable
from ...services.activity import KnowsActivity
from ...services.instances import InstanceService
from ...services.listings import ListedInstance
from ...services.live import Live
from ...services.live.engine import ImageOutlook
from ...services.offers import OfferService
from ...services.users import UserService
from ...settings import Settings
from ..schemas import AdminInstanceView, EnvironmentView
from ..schemas import InstanceView as ApiInstanceView
from . import meters, values
from .activity import ActivityCard, ActivityViews
from .home import HomeCard, home_card
from .idle import IdleCard, KnowsIdle, idle_card
from .kept import Kept
from .memory import larger_choices

CHOICES_KEPT = 500
CARDS_KEPT = 2000
UNLIMITED_INSTANCES = 10_000  # what capacity says when only memory and cores count


class Presenter:
    def __init__(
        self,
        settings: Settings,
        catalogue: Mapping[str, Environment],
        instances: InstanceService,
        offers: OfferService,
        users: UserService,
        live: Live,
        activity: KnowsActivity,
        idle: KnowsIdle,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._instances = instances
        self._offers = offers
        self._users = users
        self._live = live
        self._activity = ActivityViews(activity, idle)
        self._idle = idle
        self._choices: Kept[tuple[str, str], tuple[values.Choices, ...]] = Kept(CHOICES_KEPT)
        self._cards: Kept[str, values.InstanceView] = Kept(CARDS_KEPT)

    # -- the API -------------------------------------------------------------------------------------------------------

    async def instance(self, instance: Instance) -> ApiInstanceView:
        """An instance with what happened to it since its start, without what it uses now."""
        return ApiInstanceView.of(
            instance,
            self._settings.instances,
            queue_position=await self._live.instances.queue_position(instance),
            notices=notices_of(instance),
            idle=self._idle.end_of(instance),
        )

    async def instance_in_use(self, instance: Instance, owner: User) -> ApiInstanceView:
        """As `instance`, with what it uses and lacks now."""
        return ApiInstanceView.of(
            instance,
            self._settings.instances,
            usage=await self._usage(instance),
            queue_position=await self._live.instances.queue_position(instance),
            notices=notices_of(instance, await self._lacks(instance, owner)),
            idle=self._idle.end_of(instance),
        )

    def listed(self, found: Sequence[ListedInstance]) -> list[AdminInstanceView]:
        """Instances of anybody, as administrators see them."""
        url = self._settings.instances
        end_of = self._idle.end_of
        return [
            AdminInstanceView.of_owner(one.instance, url, one.owner, one.queue_position, end_of(one.instance))
            for one in found
        ]

    async def of_anybody(self, instance: Instance) -> AdminInstanceView:
        """One instance, as administrators see it."""
        owners = await self._users.by_ids({instance.owner_id})
        position = await self._live.instances.queue_position(instance)
        owner, idle = owners.get(instance.owner_id), self._idle.end_of(instance)
        return AdminInstanceView.of_owner(instance, self._settings.instances, owner, position, idle)

    async def environments(self) -> list[EnvironmentView]:
        """The catalogue with what is offered; an unavailable one says why."""
        views = []
        for environment in self._catalogue.values():
            outlook = await self._live.images.of(environment.name)
            views.append(
                EnvironmentView.of(
                    environment,
                    await self._offers.for_environment(environment.name),
                    reason=outlook.problem,
                    stand_in=_is_stand_in(outlook),
                )
            )
        return views

    async def _usage(self, instance: Instance) -> Usage | None:
        sample = await self._live.usage.of(instance)
        return sample.usage if sample is not None else None

    async def _lacks(self, instance: Instance, owner: User) -> tuple[str, ...]:
        return await self._live.lacking(instance, self._catalogue.get(instance.environment), owner.username)

    # -- the server ----------------------------------------------------------------------------------------------------

    async def engine_answers(self) -> bool:
        """Whether the container engine did when it was asked last, a few seconds ago."""
        return await self._live.host.engine_answers()

    async def count_live(self) -> dict[State, int]:
        """How many instances there are in each live state."""
        return await self._live.instances.count_live()

    async def outlooks(self) -> list[tuple[Environment, ImageOutlook]]:
        """What each environment would start now."""
        return [(environment, await self._live.images.of(name)) for name, environment in self._catalogue.items()]

    async def capacity_meters(self) -> list[meters.Meter]:
        """What is reserved of the server; empty when the engine has never said what the host has."""
        try:
            use = await self._offers.use()
        except EngineUnavailable:
            return []
        reserved, capacity = use.reserved, use.capacity
        most = capacity.instances if capacity.instances < UNLIMITED_INSTANCES else None
        return [
            meters.bytes_meter("Memory", reserved.memory_bytes, capacity.memory_bytes),
            meters.number_meter("Cores", reserved.cpus, capacity.cpus),
            meters.number_meter("Instances", reserved.instances, most),
        ]

    # -- pages ---------------------------------------------------------------------------------------------------------

    def title_of(self, instance: Instance) -> str:
        """What people call it: the environment's title, or its name when the catalogue has it no more."""
        environment = self._catalogue.get(instance.environment)
        return environment.title if environment else instance.environment

    async def card(self, instance: Instance, owner: User, now: datetime) -> values.InstanceView:
        """A user's own instance, with what it uses now."""
        environment = self._catalogue.get(instance.environment)
        usage = await self._usage(instance)
        offer = await self._offers.for_environment(instance.environment) if environment else None
        return self._card(
            instance,
            environment,
            now,
            offer,
            usage.memory_bytes if usage else None,
            await self._live.instances.queue_position(instance),
            lacks=await self._lacks(instance, owner),
            activity=await self._activity.of(instance, now),
            idle=idle_card(instance, self._idle, self._settings.idle.keep_hours, now),
            more_memory=await self._larger(instance, owner, offer) if offer else (),
        )

    async def _larger(self, instance: Instance, owner: User, offer: Offer) -> tuple[values.Choice, ...]:
        others = [one.limits.memory_bytes for one in await self.live_of(owner) if one.id != instance.id]
        return larger_choices(instance, offer, owner.quota, sum(others))

    async def cards_of(self, found: Sequence[ListedInstance], now: datetime) -> list[values.InstanceView]:
        """Instances of anybody, as administrators see them."""
        offers: dict[str, Offer] = {}
        cards = []
        for one in found:
            instance, owner = one.instance, one.owner
            environment = self._catalogue.get(instance.environment)
            if environment and instance.environment not in offers:
                offers[instance.environment] = await self._offers.for_environment(instance.environment)
            offer = offers.get(instance.environment)
            email = owner.email if owner else ""
            cards.append(self._card(instance, environment, now, offer, None, one.queue_position, owner_email=email))
        return cards

    def plain_card(self, instance: Instance, now: datetime, owner_email: str | None = None) -> values.InstanceView:
        """An instance without what it uses, and without a way to extend it."""
        return self._card(
            instance, self._catalogue.get(instance.environment), now, None, None, None, owner_email=owner_email
        )

    def _card(
        self,
        instance: Instance,
        environment: Environment | None,
        now: datetime,
        offer: Offer | None,
        memory_used_bytes: int | None,
        queue_position: int | None,
        *,
        owner_email: str | None = None,
        lacks: Sequence[str] = (),
        activity: ActivityCard | None = None,
        idle: IdleCard | None = None,
        more_memory: tuple[values.Choice, ...] = (),
    ) -> values.InstanceView:
        moments = values.moments_of(instance, now)
        minute = now.replace(second=0, microsecond=0)  # ends are shown to the minute
        shown = memory_used_bytes, queue_position, owner_email, lacks, activity, idle, more_memory
        made_of = (instance, environment, moments, minute, offer, *shown)
        return self._cards.get(
            f"{instance.id} {owner_email or ''}",
            made_of,
            lambda: values.instance_view(
                instance,
                environment,
                minute,
                moments=moments,
                offer=offer,
                memory_used_bytes=memory_used_bytes,
                queue_position=queue_position,
                owner_email=owner_email,
                lacks=lacks,
                activity=activity,
                idle=idle,
                more_memory=more_memory,
                freezing=self._settings.freezing,
            ),
        )

    async def launch_cards(
        self, user: User, live: Sequence[Instance], refused: values.RefusedLaunch | None
    ) -> tuple[values.LaunchCard, ...]:
        """What can be launched. `refused` is a form that comes back with what was chosen and why it was refused."""
        with_storage = await self.size_is_enforced()
        return tuple(
            [
                await self._launch_card(
                    user, environment, live, refused if refused and refused.environment == name else None, with_storage
                )
                for name, environment in self._catalogue.items()
            ]
        )

    async def _launch_card(
        self,
        user: User,
        environment: Environment,
        live: Sequence[Instance],
        refused: values.RefusedLaunch | None,
        with_storage: bool,
    ) -> values.LaunchCard:
        offer = await self._offers.for_environment(environment.name)
        outlook = await self._live.images.of(environment.name)
        same = self.same_of(environment.name, live)
        asked = refused.asked if refused else None
        choices = self._choices.get(
            (user.id, environment.name),
            (offer, user.quota, asked, with_storage),
            lambda: values.offer_choices(offer, user.quota, asked, with_storage=with_storage),
        )
        return values.LaunchCard(
            name=environment.name,
            title=environment.title,
            description=environment.description,
            choices=choices,
            unavailable=outlook.problem,
            stand_in_for=environment.image if _is_stand_in(outlook) else None,
            live_id=same[0].id if len(same) >= self._settings.limits.instances_per_environment else None,
            live_label=values.live_label(same[0].state) if same else "",
            errors=_launch_problems(refused, {one.field for one in choices}),
        )

    def same_of(self, environment: str, live: Sequence[Instance]) -> list[Instance]:
        """Those of an environment that are there to stay."""
        return [one for one in live if one.environment == environment and one.state is not State.STOPPING]

    async def default_limits(self, environment: str) -> Limits:
        """What a launch gets that chooses nothing."""
        return (await self._offers.for_environment(environment)).defaults

    async def size_is_enforced(self) -> bool:
        """Whether the size of a home folder is a choice at launch; where that cannot be told now, as if it were."""
        return await self._live.homes.enforces_limits()

    async def home_use(self, user: User) -> MeasuredUse | None:
        """What the user's home takes up, as measured last; None: it was not yet."""
        return await self._live.measured.of(user.id)

    async def home_card(self, user: User) -> HomeCard | None:
        """The same for a page; None where nothing is known, as before the first launch."""
        return home_card(await self.home_use(user))

    async def allowance(self, user: User, live: Sequence[Instance]) -> tuple[meters.Meter, ...]:
        """What of the quota is in use."""
        use = Use()
        for instance in live:
            use = use.plus(instance.limits)
        limits = await self._offers.limits()
        return tuple(meters.allowance_meters(user.quota, use, limits.instances_per_user))

    async def live_of(self, user: User) -> list[Instance]:
        """The user's live instances, newest first."""
        return await self._live.instances.of_owner(user.id)

    async def environments_used(self, user: User) -> set[str]:
        """Those of the user's live and latest ended instances."""
        return {one.environment for one in (*await self.live_of(user), *await self.ended_of(user))}

    async def instances_of(self, user: User, *, with_ended: bool, limit: int, before: Place | None) -> list[Instance]:
        """The user's instances, newest first; a page begins behind the place where the one before it ended."""
        if with_ended:
            return await self._instances.of_owner(user, with_ended=True, limit=limit, before=before)
        live = await self.live_of(user)
        if before is not None:
            live = [one for one in live if (one.created_at, one.id) < (before.at, before.key)]
        return live[:limit]

    async def ended_of(self, user: User) -> tuple[Instance, ...]:
        """The user's latest ended instances, the latest end first."""
        return await self._live.ended.latest_of(user.id)


def _is_stand_in(outlook: ImageOutlook) -> bool:
    return outlook.image is not None and outlook.image.stand_in


def _launch_problems(refused: values.RefusedLaunch | None, shown: Container[str]) -> values.Problems:
    """A refused launch at those of its fields that are shown; what concerns none of them stands above them all."""
    if refused is None:
        return values.Problems()
    problems = values.Problems({name: text for name, text in refused.fields.items() if name in shown})
    if len(problems) < len(refused.fields) or not problems:
        problems[""] = refused.in_full
    return problems

"""Administrators' page about what is offered at launch, and what labs may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from ...domain.lab_capacity import LabCapacity, labs_table
from ...domain.limits import Limits, Offer, OfferedLimits
from ...domain.sizes_codec import offered_table
from ..deps import Configured, CurrentAdmin, LabCapacities, Offers, Present
from ..views.values import Problems
from .after_form import AfterForm
from .forms import Count, Counts, MaybeNumber, MaybeSize, Number, Numbers, PageForm, Size, Sizes, needed
from .rendering import after_form, page, saying, see_other

router = APIRouter(prefix="/admin/limits", include_in_schema=False)


@router.get("")
async def limits(
    request: Request,
    visitor: CurrentAdmin,
    settings: Configured,
    offers: Offers,
    present: Present,
    labs: LabCapacities,
) -> Response:
    """The choices and defaults offered to everybody, and the capacity by lab."""
    left = after_form(request, visitor, "/admin/limits", "/admin/limits/labs")
    refused = left if left and left.action == "/admin/limits" else None
    form = _form_of(await offers.limits())
    return page(
        request,
        "admin/limits.html",
        visitor,
        form={**form, **refused.values} if refused else form,
        errors=_at_fields(refused) if refused else Problems(),
        labs=_labs_of(await labs.labs(), left if left is not refused else None),
        storage_enforced=await present.size_is_enforced(),
        own_choices=[
            entry.title
            for entry in settings.environments
            if entry.enabled and entry.offer.model_dump(exclude_none=True)
        ],
    )


def _at_fields(refused: AfterForm) -> Problems:
    """What is wrong with a default stands at the default's field, not at the choices."""
    problems = Problems()
    for field, text in refused.fields.items():
        problems[f"default_{field}" if text.startswith("the default") else field] = text
    if not problems:
        problems[""] = refused.detail
    return problems


def _form_of(limits: OfferedLimits) -> dict[str, str]:
    table = offered_table(limits)
    choices = {name: ", ".join(map(_text, table[name])) for name in ("memory", "cpus", "storage", "days")}
    defaults = {f"default_{name}": _text(value) for name, value in table["defaults"].items()}
    return {**choices, **defaults, "instances_per_user": str(limits.instances_per_user)}


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


class LimitsForm(PageForm):
    memory: Sizes = needed()
    default_memory: Size = needed()
    cpus: Numbers = needed()
    default_cpus: Number = needed()
    storage: Sizes = needed()
    default_storage: Size = needed()
    days: Counts = needed()
    default_days: Count = needed()
    instances_per_user: Count = needed()

    def limits(self) -> OfferedLimits:
        defaults = Limits(self.default_memory, self.default_cpus, self.default_storage, self.default_days)
        return OfferedLimits(Offer(self.memory, self.cpus, self.storage, self.days, defaults), self.instances_per_user)


@router.post("")
async def change_limits(visitor: CurrentAdmin, offers: Offers, form: Annotated[LimitsForm, Form()]) -> Response:
    """Replaces what is offered; running instances keep what they have."""
    await offers.set_limits(form.limits(), visitor.actor, visitor.now)
    return see_other(f"/admin/limits?{urlencode(saying(visitor, 'saved', 'Limits'))}")


LAB_FIELDS = ("guaranteed_memory", "guaranteed_cpus", "max_memory", "max_cpus")


@dataclass(frozen=True)
class LabRow:
    """A lab's form; `lab` is empty in the one for another lab."""

    lab: str
    values: Mapping[str, str]
    errors: Problems


def _labs_of(labs: Mapping[str, LabCapacity], refused: AfterForm | None) -> list[LabRow]:
    """A form for each lab and one for another; a refused one comes back as it was, with what is wrong."""
    rows = {
        lab: LabRow(lab, {name: "" if value is None else _text(value) for name, value in table.items()}, Problems())
        for lab, table in labs_table(labs).items()
    }
    rows[""] = LabRow("", dict.fromkeys((*LAB_FIELDS, "lab"), ""), Problems())
    if refused is not None:
        lab = refused.values.get("lab", "")
        key = lab if lab in rows else ""
        typed = {name: refused.values.get(name, "") for name in (*LAB_FIELDS, "lab")}
        rows[key] = LabRow(key, typed, Problems(refused.problems()))
    return list(rows.values())


class LabForm(PageForm):
    """What is left empty is not set."""

    lab: str = ""
    guaranteed_memory: MaybeSize = None
    guaranteed_cpus: MaybeNumber = None
    max_memory: MaybeSize = None
    max_cpus: MaybeNumber = None

    def capacity(self) -> LabCapacity:
        guaranteed = (self.guaranteed_memory or 0, self.guaranteed_cpus or 0.0)
        return LabCapacity(*guaranteed, self.max_memory, self.max_cpus)


@router.post("/labs")
async def change_lab(visitor: CurrentAdmin, labs: LabCapacities, form: Annotated[LabForm, Form()]) -> Response:
    """Sets what one lab is guaranteed and may have at most; running instances keep what they have."""
    await labs.set_lab(form.lab, form.capacity(), visitor.actor, visitor.now)
    return see_other(f"/admin/limits?{urlencode(saying(visitor, 'saved', form.lab.strip()))}")

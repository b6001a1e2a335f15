"""Administrators' page about what is offered at launch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from ...domain.limits import Limits, Offer
from ...domain.sizes import format_bytes
from ...services.offers import OfferedLimits
from ..deps import Configured, CurrentAdmin, Offers, Present
from ..views.values import Problems
from .after_form import AfterForm
from .forms import FormReader, count, number, size
from .rendering import after_form, page, saying, see_other

router = APIRouter(prefix="/admin/limits", include_in_schema=False)

Text = Annotated[str, Form()]


@router.get("")
async def limits(
    request: Request, visitor: CurrentAdmin, settings: Configured, offers: Offers, present: Present
) -> Response:
    """The choices and defaults offered to everybody."""
    refused = after_form(request, visitor, "/admin/limits")
    form = _form_of(await offers.limits())
    return page(
        request,
        "admin/limits.html",
        visitor,
        form={**form, **refused.values} if refused else form,
        errors=_at_fields(refused) if refused else Problems(),
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
    offer, defaults = limits.offer, limits.offer.defaults
    return {
        "memory": ", ".join(map(format_bytes, offer.memory_bytes)),
        "default_memory": format_bytes(defaults.memory_bytes),
        "cpus": ", ".join(f"{count:g}" for count in offer.cpus),
        "default_cpus": f"{defaults.cpus:g}",
        "storage": ", ".join(map(format_bytes, offer.storage_bytes)),
        "default_storage": format_bytes(defaults.storage_bytes),
        "days": ", ".join(map(str, offer.days)),
        "default_days": str(defaults.days),
        "instances_per_user": str(limits.instances_per_user),
    }


@router.post("")
async def change_limits(
    visitor: CurrentAdmin,
    offers: Offers,
    memory: Text = "",
    default_memory: Text = "",
    cpus: Text = "",
    default_cpus: Text = "",
    storage: Text = "",
    default_storage: Text = "",
    days: Text = "",
    default_days: Text = "",
    instances_per_user: Text = "",
) -> Response:
    """Replaces what is offered; running instances keep what they have."""
    form = {
        "memory": memory,
        "default_memory": default_memory,
        "cpus": cpus,
        "default_cpus": default_cpus,
        "storage": storage,
        "default_storage": default_storage,
        "days": days,
        "default_days": default_days,
        "instances_per_user": instances_per_user,
    }
    await offers.set_limits(_read(form), visitor.actor, visitor.now)
    return see_other(f"/admin/limits?{urlencode(saying(visitor, 'saved', 'Limits'))}")


def _read(form: Mapping[str, str]) -> OfferedLimits:
    """Raises InvalidInput with the fields that cannot be read."""
    reader = FormReader(form)
    offer = Offer(
        memory_bytes=reader.several("memory", size),
        cpus=reader.several("cpus", number),
        storage_bytes=reader.several("storage", size),
        days=reader.several("days", count),
        defaults=Limits(
            memory_bytes=reader.required("default_memory", size, 0),
            cpus=reader.required("default_cpus", number, 0.0),
            storage_bytes=reader.required("default_storage", size, 0),
            days=reader.required("default_days", count, 0),
        ),
    )
    limits = OfferedLimits(offer, reader.required("instances_per_user", count, 0))
    reader.check()
    return limits

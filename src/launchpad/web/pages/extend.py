"""The page behind a link in a mail, which extends an instance without signing in, after a person's own act."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from ...services.extension_links import number_in_words
from ...services.extensions import LinkState
from ..deps import Extensions, FromClient, FromOwnPages, MaybeVisitor, Now, Present, Public
from ..views.values import Problems, extension_choices
from .forms import MaybeCount, PageForm
from .rendering import after_form, page, reads_in, see_other

router = APIRouter(prefix="/extend", include_in_schema=False)


class LinkForm(PageForm):
    """`held` is what the page's script adds after the button was held, `number` what is typed instead."""

    days: MaybeCount = None
    mark: Annotated[str, Form(max_length=100)] = ""
    held: Annotated[str, Form(max_length=100)] = ""
    number: Annotated[str, Form(max_length=20)] = ""


@router.get("/{token}", dependencies=[Public])
async def extend_page(
    token: str,
    request: Request,
    visitor: MaybeVisitor,
    extensions: Extensions,
    present: Present,
    now: Now,
    done: bool = False,
) -> Response:
    """What the link is about, and how to use it. Looking at it changes nothing."""
    outlook = await extensions.outlook(token, now)
    reads_in(request, outlook.owner.time_zone)
    action = f"/extend/{token}"
    refused = after_form(request, visitor, action)
    showing = extensions.show(token, now)
    instance, minute = outlook.instance, now.replace(second=0, microsecond=0)
    return page(
        request,
        "extend.html",
        visitor,
        status=410 if outlook.state is LinkState.ENDED else 200,
        action=action,
        state=outlook.state.value,
        title=present.title_of(instance),
        ends_at=instance.ends_at if instance.is_live else instance.ended_at or instance.expires_at,
        idle_ends_at=outlook.link.idle_ends_at if outlook.keeps else None,
        choices=extension_choices(instance, outlook.offer, minute) if outlook.offer and not outlook.keeps else (),
        chosen=refused.values.get("days", "") if refused else "",
        done=done and outlook.state is LinkState.USED,
        mark=showing.mark,
        proof=showing.proof,
        number=number_in_words(showing.number),
        errors=Problems(refused.problems()) if refused else Problems(),
    )


@router.post("/{token}", dependencies=[Public, FromOwnPages])
async def extend(
    token: str, extensions: Extensions, client: FromClient, now: Now, form: Annotated[LinkForm, Form()]
) -> Response:
    """Extends the instance, if the form has what only a person adds to it."""
    await extensions.use(
        token,
        days=form.days,
        mark=form.mark,
        held=form.held,
        number=form.number,
        client=client.address,
        now=now,
    )
    return see_other(f"/extend/{token}?done=true")

"""Personal API tokens."""

from __future__ import annotations

from fastapi import APIRouter

from ..deps import CurrentUser, Tokens
from ..schemas import NewTokenView, TokenBody, TokenView
from .responses import PROBLEMS, ROOT

router = APIRouter(prefix=f"{ROOT}/tokens", tags=["tokens"], responses=PROBLEMS)


@router.get("")
async def list_tokens(visitor: CurrentUser, tokens: Tokens) -> list[TokenView]:
    return [TokenView.of(token) for token in await tokens.of_user(visitor.user)]


@router.post("", status_code=201)
async def create_token(body: TokenBody, visitor: CurrentUser, tokens: Tokens) -> NewTokenView:
    """Creates a token; its secret is only in this response."""
    token, secret = await tokens.create(visitor.user, body.name, visitor.actor, visitor.now)
    return NewTokenView(**TokenView.of(token).model_dump(), token=secret)


@router.delete("/{token_id}", status_code=204)
async def revoke_token(token_id: str, visitor: CurrentUser, tokens: Tokens) -> None:
    await tokens.revoke(visitor.user, token_id, visitor.actor, visitor.now)

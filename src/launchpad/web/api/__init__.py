"""The JSON API of `/api/v1`. The OpenAPI document is made from these routes."""

from __future__ import annotations

from fastapi import APIRouter

from . import (
    admin,
    announcements,
    environments,
    events,
    file_space,
    file_uploads,
    files,
    home_use,
    instances,
    labs,
    leaving,
    ledger,
    libraries,
    policies,
    policy_replay,
    share_links,
    shares,
    sign_in,
    snapshots,
    tokens,
)

ROUTERS: tuple[APIRouter, ...] = tuple(
    part.router
    for part in (
        *(
            sign_in,
            environments,
            instances,
            events,
            files,
            file_uploads,
            file_space,
            snapshots,
            tokens,
            ledger,
            labs,
            home_use,
            libraries,
            shares,
            share_links,
        ),
        *(announcements, admin, leaving, policies, policy_replay),
    )
)

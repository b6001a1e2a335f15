"""The pages people see: rendered on the server, complete without JavaScript, livelier with it."""

from __future__ import annotations

from fastapi import APIRouter

from . import (
    account,
    admin,
    admin_announcements,
    admin_instances,
    admin_labs,
    admin_leaving,
    admin_limits,
    admin_mail,
    admin_policies,
    admin_policy_replay,
    admin_storage,
    admin_users,
    confirm,
    dashboard,
    extend,
    file_acts,
    file_forms,
    file_restores,
    files,
    go,
    instance_log,
    labs,
    landing,
    ledger,
    libraries,
    passkeys,
    shares,
    sign_in,
    static_files,
)

ROUTERS: tuple[APIRouter, ...] = tuple(
    part.router
    for part in (
        dashboard,
        files,
        file_acts,
        file_forms,
        file_restores,
        shares,
        go,
        static_files,
        landing,
        sign_in,
        extend,
        passkeys,
        confirm,
        instance_log,
        account,
        ledger,
        labs,
        libraries,
        admin,
        admin_users,
        admin_labs,
        admin_leaving,
        admin_instances,
        admin_storage,
        admin_limits,
        admin_mail,
        admin_policies,
        admin_policy_replay,
        admin_announcements,
    )
)

"""The pages people see: rendered on the server, complete without JavaScript, livelier with it."""

from __future__ import annotations

from fastapi import FastAPI

from . import (
    account,
    admin,
    admin_instances,
    admin_limits,
    admin_mail,
    admin_users,
    confirm,
    dashboard,
    instance_log,
    landing,
    passkeys,
    sign_in,
    static_files,
)


def install(app: FastAPI) -> None:
    """Adds the pages and their static files to the app."""
    for part in (
        static_files,
        landing,
        sign_in,
        passkeys,
        confirm,
        dashboard,
        instance_log,
        account,
        admin,
        admin_users,
        admin_instances,
        admin_limits,
        admin_mail,
    ):
        app.include_router(part.router, include_in_schema=False)

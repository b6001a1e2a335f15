"""Imports every table's module, so that the metadata is whole for migrations."""

from . import (
    audit,
    challenges,
    changes,
    gate,
    instance_history,
    instance_logs,
    instances,
    known_browsers,
    kv,
    logins,
    mail_failures,
    outgoing_mails,
    passkeys,
    recent_use,
    tokens,
    users,
)

__all__ = [
    "audit",
    "challenges",
    "changes",
    "gate",
    "instance_history",
    "instance_logs",
    "instances",
    "known_browsers",
    "kv",
    "logins",
    "mail_failures",
    "outgoing_mails",
    "passkeys",
    "recent_use",
    "tokens",
    "users",
]

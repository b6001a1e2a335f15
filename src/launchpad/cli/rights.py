"""As whom a command works."""

from __future__ import annotations

import os
import pwd

from ..errors import SettingsError
from ..settings import Settings


def give_up_root(settings: Settings) -> None:
    """Where a helper does what needs root, goes on as the user whose state this is.

    Root beside a directory that the portal writes could be led elsewhere by a link, and would leave files behind that
    the portal cannot write.

    Raises:
        SettingsError: there is no such user.
    """
    user = portal_user(settings)
    if user is not None:
        become(user)


def portal_user(settings: Settings) -> pwd.struct_passwd | None:
    """The user whose state this is, where a helper does what needs root and this process is root; else None.

    Raises:
        SettingsError: there is no such user.
    """
    if settings.helper.socket is None or os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(settings.helper.user)
    except KeyError:
        raise SettingsError(f"helper.user: this server has no user “{settings.helper.user}”.") from None


def become(user: pwd.struct_passwd) -> None:
    """For good. The groups first: without root they cannot be changed any more."""
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ["HOME"] = user.pw_dir

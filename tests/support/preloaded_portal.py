"""What a portal loads before it is told what it is for, loaded by importing this; see portal_process.py."""

from __future__ import annotations

import gc

from launchpad.cli.light import leave_out_what_is_not_used

leave_out_what_is_not_used()

import launchpad.cli.portal  # noqa: E402 - only after what is not used was left out, as in `launchpad serve`
from launchpad.web.pages.rendering import load_templates  # noqa: E402

assert launchpad.cli.portal
load_templates()
gc.freeze()  # collections in the portals must not copy what they share

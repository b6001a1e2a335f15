"""The nginx in front of the portal and the instances: its configuration, and what it needs to know of the machine."""

from .machine import has_ipv6_loopback, wants_http2_directive, wants_http2_sizes, worker_user
from .render import Form, render
from .stapling import Stapling, stapling_for

__all__ = [
    "Form",
    "Stapling",
    "has_ipv6_loopback",
    "render",
    "stapling_for",
    "wants_http2_directive",
    "wants_http2_sizes",
    "worker_user",
]

"""The nginx in front of the portal and the instances: its configuration, and what it needs to know of the machine."""

from .machine import has_ipv6_loopback, wants_http2_directive, wants_http2_sizes, worker_user
from .render import Form, render

__all__ = [
    "Form",
    "has_ipv6_loopback",
    "render",
    "wants_http2_directive",
    "wants_http2_sizes",
    "worker_user",
]

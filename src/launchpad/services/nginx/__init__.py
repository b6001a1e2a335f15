"""The nginx in front of the portal and the instances: its configuration, and what it needs to know of the machine."""

from .machine import has_ipv6_loopback, worker_user
from .render import Form, render

__all__ = ["Form", "has_ipv6_loopback", "render", "worker_user"]

"""Where instances live: below one origin (`http://localhost:8081/i/<id>/`), or each at a host name of its own."""

from __future__ import annotations

from dataclasses import dataclass

INSTANCE_MARK = "{instance}"


@dataclass(frozen=True)
class InstancesOrigin:
    """The setting `instances_url`: `https://run.example.org`, or `https://{instance}.lab.example.org`.

    With a host name for each instance, browsers keep instances apart from each other as they keep sites apart.
    """

    template: str

    @property
    def is_wildcard(self) -> bool:
        return INSTANCE_MARK in self.template

    @property
    def pattern(self) -> str:
        """All of the instances' origins, as a Content-Security-Policy writes it."""
        return self.template.replace(INSTANCE_MARK, "*")

    def of(self, instance_id: str) -> str:
        """The origin of an instance's pages."""
        return self.template.replace(INSTANCE_MARK, instance_id)

    def root_path(self, instance_id: str) -> str:
        """The path at that origin under which the instance lives, without a slash at its end: "" or `/i/<id>`."""
        return "" if self.is_wildcard else f"/i/{instance_id}"

    def url(self, instance_id: str, path: str = "/") -> str:
        """A page of the instance; `path` begins with a slash."""
        return f"{self.of(instance_id)}{self.root_path(instance_id)}{path}"

    def enter_url(self, instance_id: str) -> str:
        """Where a ticket is taken. At a host name of its own, all plain paths are the application's."""
        return f"{self.of(instance_id)}{'/_launchpad/enter' if self.is_wildcard else '/enter'}"

    def clear_cookies_url(self, instance_id: str) -> str:
        """Where a form of the portal drops the cookies that keep a browser out of the instance."""
        return f"{self.of(instance_id)}{'/_launchpad/clear-cookies' if self.is_wildcard else '/clear-cookies'}"

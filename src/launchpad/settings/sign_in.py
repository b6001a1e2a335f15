"""The settings of signing in."""

from __future__ import annotations

from pydantic import Field

from .values import Domain, IpRange, Section


class SignInSettings(Section):
    """Who may sign in by e-mail, and how often a code may be asked for or tried."""

    allowed_domains: tuple[Domain, ...] = Field(
        (), description="Domains whose addresses may sign in, compared exactly. Empty: any domain."
    )
    code_minutes: int = Field(10, ge=1, le=60, description="How long a code works.")
    code_attempts: int = Field(5, ge=1, le=20, description="Wrong attempts after which a code stops working.")
    sends_per_hour_per_address: int = Field(5, ge=1, description="Codes sent to one address in an hour.")
    sends_per_day_per_address: int = Field(20, ge=1, description="Codes sent to one address in a day.")
    sends_per_hour_per_client: int = Field(
        600,
        ge=1,
        description="Codes asked for by one client address in an hour. A class behind one address is one client.",
    )
    failures_per_hour_per_client: int = Field(
        120, ge=1, description="Failed tries to sign in by one client address in an hour."
    )
    trusted_networks: tuple[IpRange, ...] = Field(
        (),
        description='Networks of the institute, such as ["192.0.2.0/24", "2001:db8:7::/48"], whose client addresses '
        "may do more before they meet the two limits above.",
    )
    trusted_factor: int = Field(
        10, ge=1, description="How many times as much a client address of these networks may do."
    )
    failures_per_hour_total: int = Field(
        200, ge=1, description="Wrong codes an hour, over all clients, after which new codes are long ones."
    )
    admin_fresh_minutes: int = Field(
        30, ge=1, description="Administrators who were inactive for longer have to confirm their identity again."
    )
    login_hours: int = Field(24, ge=1, description="How long a login lasts when “remember me” is off.")
    login_idle_hours: int = Field(12, ge=1, description="A login unused for so long ends, when “remember me” is off.")
    remember_days: int = Field(7, ge=1, le=90, description="How long a login lasts when “remember me” is on.")

"""What pages may load, as their Content-Security-Policy says it."""

from __future__ import annotations


def page_policy(instances: str, *, frames: bool = False) -> str:
    """Args:
    instances: the instances' origin, which forms may lead to.
    frames: whether the page shows a file of its reader in a frame.
    """
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"connect-src 'self'; manifest-src 'self'; form-action 'self' {instances}; "
        + ("frame-src 'self'; " if frames else "")
        + "frame-ancestors 'none'; base-uri 'none'"
    )

"""Looks at everything the platform depends on, and says what to do about what is wrong.

It mends no more than a sweep does. What cannot be looked at here is said to be so, and never called well.
"""

from .doctor import Doctor
from .findings import Finding, Level

__all__ = ["Doctor", "Finding", "Level"]

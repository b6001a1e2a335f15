"""The runtime as the portal reaches it where it has no right to: through the privileged helper.

What can be asked is what the contracts declare. Images are not fetched or built this way: that is for the
administrator, as root.
"""

from __future__ import annotations

from ..helper_client import HelperClient, asking
from .base import ConnectionCutter, Containers, Images, Launches, Network, Runtime


def helper_runtime(client: HelperClient) -> Runtime:
    made: Runtime = asking(client, Containers, Network, Images)
    return made


def helper_launches(client: HelperClient) -> Launches:
    """Starts only what the settings that the helper reads make of an order."""
    made: Launches = asking(client, Launches)
    return made


def helper_cutter(client: HelperClient) -> ConnectionCutter:
    made: ConnectionCutter = asking(client, ConnectionCutter)
    return made

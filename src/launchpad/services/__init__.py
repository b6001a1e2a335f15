"""What the platform does. Built on the ports and the store; used by `web` and `cli` alike."""

"""The program `launchpad`."""

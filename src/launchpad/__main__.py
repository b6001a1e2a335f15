"""`python -m launchpad` is the program `launchpad`."""

from .cli.main import main

main()

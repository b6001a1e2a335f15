"""The program `launchpad`, also as `python -m launchpad`."""

from __future__ import annotations

import sys


def main() -> None:
    """Asks the portal where that is all there is to do, and loads the whole program else."""
    from .cli.light import run

    code = run(sys.argv[1:])
    if code is not None:
        sys.exit(code)
    from .cli.main import main as whole_program

    whole_program()


if __name__ == "__main__":
    main()

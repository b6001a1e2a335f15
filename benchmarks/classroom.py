"""A class signs in: 300 people behind one address, through nginx and a real mail server, with the limits as they ship.

Everybody opens the sign-in page, asks for a code, waits for the mail and types the code; some mistype it first. It
fails unless all of them are signed in at the end.

    python benchmarks/classroom.py [--people 300] [--mistyping 30] [--within-seconds 60]

Needs root, nginx and Docker Engine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from launchpad.settings import SignInSettings  # noqa: E402
from support.classroom import sign_in_all  # noqa: E402 - the path has to be set first
from support.live import LivePlatform  # noqa: E402
from support.smtp import MailServer  # noqa: E402

LIMITS = ("sends_per_hour_per_client", "failures_per_hour_per_client", "failures_per_hour_total")


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and the longest, in seconds."""
    ordered = sorted(seconds)
    return {
        "median": round(statistics.median(ordered), 3),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 3),
        "longest": round(ordered[-1], 3),
    }


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--mistyping", type=int, default=30, help="how many of them type a wrong code first")
    parser.add_argument("--within-seconds", type=float, default=60.0, help="the clicks come within so long; 0: at once")
    given = parser.parse_args()
    shipped = {name: SignInSettings.model_fields[name].default for name in LIMITS}
    mail = MailServer()
    mail.start()
    with tempfile.TemporaryDirectory() as folder:
        live = LivePlatform(Path(folder), mail, {"sign_in": shipped})
        try:
            await live.start()
            begun = perf_counter()
            outcome = await sign_in_all(
                live, people=given.people, mistyping=given.mistyping, within_seconds=given.within_seconds
            )
            took = perf_counter() - begun
        finally:
            await live.stop()
            mail.stop()
    found = {
        "people": given.people,
        "limits": shipped,
        "signed in": outcome.signed_in,
        "mistyped first": outcome.mistyped,
        "refused": outcome.refused,
        "seconds in all": round(took, 1),
        "seconds from the click to the answer": _spread(outcome.until_answer_seconds),
        "seconds from the click to the code": _spread(outcome.until_code_seconds),
        "seconds from the click to the dashboard (nobody types)": _spread(outcome.whole_seconds),
    }
    print(json.dumps(found, indent=2))
    return 0 if outcome.signed_in == given.people else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

"""The long runs: many kills, large amounts, random stories beside a model, a whole Airflow.

Without a name, all of them run, one after the other. The exit status is 1 if one fails.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.frame import ROOT, Option

OPTIONS = (
    Option("--records", [20_000, 200_000, 1_000_000, 10_000_000], "sizes: records of the listings"),
    Option("--offers", [5000, 100_000, 1_000_000], "search-size: records of the indexes"),
    Option("--orders", [10_000, 1_000_000], "outbound-size: orders in the queues"),
    Option("--count", 50, "kills, search-kills, outbound-kills: processes to kill"),
    Option("--examples", 1000, "machine: random stories"),
    Option("--venues", 1000, "inbound-airflow: venues per supplier"),
    Option("--books", 200, "inbound-airflow: books per venue"),
    Option("--minutes", 20, "search-minutes: minutes to watch"),
    Option("--moves", 10, "search-minutes: rebuilds of the index"),
    Option("--slow-venues", 40, "search-minutes: venues of each slow supplier that is loaded meanwhile"),
)


def sizes(options: argparse.Namespace) -> bool:
    """Load listings of up to 10 million records: memory must stay flat, and every row must be right."""
    from bench.inbound.benchmark import Inbound
    from soak.sizes import run

    return run(Inbound, options.folder, options.records)


def search_size(options: argparse.Namespace) -> bool:
    """Patch indexes of up to a million records: memory must stay flat, and every record must be right."""
    from soak.sizes import SearchSizes, run

    return run(SearchSizes, options.folder, options.offers)


def outbound_size(options: argparse.Namespace) -> bool:
    """Send queues of up to a million orders: memory must stay flat, and every object must be sent."""
    from soak.sizes import OutboundSizes, run

    return run(OutboundSizes, options.folder, options.orders)


def kills(options: argparse.Namespace) -> bool:
    """Kill the sync of a venue at random moments: the next attempt must end as if nothing had happened."""
    from soak.inbound_kills import InboundKills
    from soak.kill import run

    return run(InboundKills, options.count, options.seed)


def search_kills(options: argparse.Namespace) -> bool:
    """Kill the patching of an index at random moments: every record must be right in the end."""
    from soak.kill import run
    from soak.search_kills import SearchKills

    return run(SearchKills, options.count, options.seed)


def outbound_kills(options: argparse.Namespace) -> bool:
    """Kill the sending of orders at random moments: every object must be right in the end."""
    from soak.kill import run
    from soak.outbound_kills import OutboundKills

    return run(OutboundKills, options.count, options.seed)


def outbound_twins(options: argparse.Namespace) -> bool:
    """Let two workers empty one queue: every object must be sent exactly once."""
    from soak.outbound_twins import run

    return run(options.folder)


def outbound_outage(options: argparse.Namespace) -> bool:
    """Let the target be down for a simulated hour: every object must be sent in the end."""
    from soak.outbound_outage import run

    return run(options.folder)


def machine(options: argparse.Namespace) -> bool:
    """Run random stories of syncs, kills and edits: the tables must always be those of a model."""
    from soak.machine.run import run

    return run(options.examples, options.seed)


def inbound_airflow(options: argparse.Namespace) -> bool:
    """Let a whole Airflow load four suppliers with many venues: every row must be right."""
    from soak.airflow.loads import run

    return run(options.venues, options.books)


def search_minutes(options: argparse.Namespace) -> bool:
    """Let Airflow's scheduler patch an index every minute: it must be on time, and follow every move."""
    from soak.airflow.minutes import run

    return run(options.minutes, options.moves, options.slow_venues)


SOAKS: dict[str, Callable[[argparse.Namespace], bool]] = {
    "sizes": sizes,
    "kills": kills,
    "machine": machine,
    "inbound-airflow": inbound_airflow,
    "search-size": search_size,
    "search-kills": search_kills,
    "search-minutes": search_minutes,
    "outbound-size": outbound_size,
    "outbound-kills": outbound_kills,
    "outbound-twins": outbound_twins,
    "outbound-outage": outbound_outage,
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m soak",
        description=__doc__,
        epilog="\n".join(["names:", *(f"  {name:<16} {soak.__doc__}" for name, soak in SOAKS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="*", choices=[*SOAKS, []], metavar="NAME", help="what to run, see below")
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench", help="folder for databases and working files")
    seed = "kills, search-kills, outbound-kills, machine: seed of the random choices (default: another one each time)"
    parser.add_argument("--seed", type=int, metavar="N", help=seed)
    for option in OPTIONS:
        option.add_to(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is requested; returns the exit status."""
    options = parse(arguments)
    has_passed = True
    for name in options.what or SOAKS:
        began = time.monotonic()
        passed = SOAKS[name](options)
        has_passed &= passed
        print(f"{name}: {'passed' if passed else 'FAILED'} in {time.monotonic() - began:.0f} s", flush=True)
    return 0 if has_passed else 1


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench.soak`: the long runs. Sizes from 20 thousand to 10 million records, then many kills, random stories
of syncs, kills and edits beside a model, and four suppliers with a thousand venues each through a whole Airflow; the
same for the patching of a search index, and how soon after a move it is done; and for the sending of orders, with two
claimers on one queue and a target that is down.

The records are made as they are served, so that only the engine's own memory is looked at. Of each size: a first load
and one in which nothing changed, each in a fresh process. It fails when memory grows by more than 30 MiB over the
start, or when the table does not hold what was listed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.entries import CONTENDERS, Contender
from bench.rounds import Arena, Outcome, WrongRows, arena

ROOT = Path(__file__).parents[1]
SIZES = (20_000, 200_000, 1_000_000, 10_000_000)
MAX_GROWTH = 30.0
"""MiB over the start, whatever the size."""
OFFERS = (5000, 100_000, 1_000_000)
ORDERS = (10_000, 1_000_000)
KILLS = "bench.soak_kills"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*SOAKS, []], help="all of them without")
    parser.add_argument("--records", type=int, nargs="+", default=list(SIZES), help="sizes to load (%(default)s)")
    parser.add_argument("--examples", type=int, default=1000, help="stories of machine (%(default)s)")
    parser.add_argument("--seed", type=int, help="of machine; without it another one each time")
    parser.add_argument("--offers", type=int, nargs="+", default=list(OFFERS), help="of search-size (%(default)s)")
    parser.add_argument("--minutes", type=int, default=20, help="of search-minutes (%(default)s)")
    parser.add_argument("--moves", type=int, default=10, help="of search-minutes (%(default)s)")
    parser.add_argument(
        "--slow-venues", type=int, default=40, help="of each slow supplier beside search-minutes (%(default)s)"
    )
    parser.add_argument("--orders", type=int, nargs="+", default=list(ORDERS), help="of outbound-size (%(default)s)")
    parser.add_argument("--venues", type=int, default=1000, help="of inbound-airflow, per supplier (%(default)s)")
    parser.add_argument("--books", type=int, default=200, help="of inbound-airflow, per venue (%(default)s)")
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench", help="for data and working files")
    return parser.parse_args(given)


def sizes(options: argparse.Namespace) -> bool:
    """Load each size, dated and dateless; True when memory is flat and the rows are right."""
    grown: list[float] = []
    with arena(options.folder) as ring:
        for contender in CONTENDERS:
            if contender.module == "engine":
                for records in options.records:
                    outcomes = _load(ring, contender, records)
                    if outcomes is None:
                        return False
                    grown += [outcome.measured.growth for outcome in outcomes]
    is_flat = max(grown) <= MAX_GROWTH
    print(
        f"Memory is {'flat' if is_flat else 'NOT flat'}: it grew by {min(grown):.1f} to {max(grown):.1f} MiB over the "
        f"start from {min(options.records):,} to {max(options.records):,} records, {MAX_GROWTH:.0f} MiB are allowed"
    )
    return is_flat


def _load(ring: Arena, contender: Contender, records: int) -> list[Outcome] | None:
    """First load and nothing changed; None when the rows are wrong."""
    try:
        return ring.play(replace(contender, phases=("first", "unchanged")), records, _tell)
    except WrongRows as wrong:
        print(f"Wrong rows: {wrong}")
        return None


def _tell(outcome: Outcome) -> None:
    measured = outcome.measured
    print(
        f"{outcome.contender:<16} {outcome.records:>12,} records  {outcome.phase:<10} {measured.seconds:9.2f} s"
        f"  {outcome.records / measured.seconds:>9,.0f} records/s  peak {measured.peak:.0f} MiB, +{measured.growth:.1f}"
        f"  WAL {outcome.wal:,.1f} MB",
        flush=True,
    )


def kills(_: argparse.Namespace) -> bool:
    """Kill the engine many times over at any moment; True when nothing was lost or doubled."""
    if importlib.util.find_spec(KILLS) is None:
        print(f"{KILLS} is not there: left out")
        return True
    return bool(importlib.import_module(KILLS).main([]) == 0)


def machine(options: argparse.Namespace) -> bool:
    """Tell random stories of syncs, kills and edits; True when each ended as the model of the engine says."""
    from bench.inbound import soak_machine

    return soak_machine.run(options.examples, options.seed)


def search_size(options: argparse.Namespace) -> bool:
    """Patch indices of up to a million records; True when memory is flat and the records are right."""
    from bench.search import soak_size

    return soak_size.run(options.folder, options.offers)


def search_kills(_: argparse.Namespace) -> bool:
    """Kill the patching of an index many times over; True when every record is right in the end."""
    from bench.search import soak_kills

    return soak_kills.run()


def search_minutes(options: argparse.Namespace) -> bool:
    """Let Airflow's scheduler patch an index each minute; True when it is on time, and each move was followed."""
    from bench.search import soak_minutes

    return soak_minutes.run(options.minutes, options.moves, options.slow_venues)


def outbound_size(options: argparse.Namespace) -> bool:
    """Send queues of up to a million orders; True when memory is flat and all came."""
    from bench.outbound import soak_size

    return soak_size.run(options.folder, options.orders)


def outbound_kills(_: argparse.Namespace) -> bool:
    """Kill the process that sends many times over; True when every object is right in the end."""
    from bench.outbound import soak_kills

    return soak_kills.run()


def outbound_twins(options: argparse.Namespace) -> bool:
    """Let two claimers empty one queue; True when every object came exactly once."""
    from bench.outbound import soak_twins

    return soak_twins.run(options.folder)


def outbound_outage(options: argparse.Namespace) -> bool:
    """Let the target be down for an hour that is not waited for; True when all came in the end."""
    from bench.outbound import soak_outage

    return soak_outage.run(options.folder)


def inbound_airflow(options: argparse.Namespace) -> bool:
    """Let a whole Airflow load four suppliers with many venues each; True when the rows are right."""
    from bench.venues import soak_airflow

    return soak_airflow.run(options.venues, options.books)


SOAKS = {
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


def main(given: Sequence[str] | None = None) -> int:
    """Run what is asked for; returns the exit status."""
    options = arguments(given)
    is_good = True
    for name in options.what or SOAKS:
        began = time.monotonic()
        passed = SOAKS[name](options)
        is_good &= passed
        print(f"{name}: {'passed' if passed else 'FAILED'} in {time.monotonic() - began:.0f} s", flush=True)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())

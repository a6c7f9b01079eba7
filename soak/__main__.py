"""The long runs: many kills, large amounts, random stories compared with a model, a whole Airflow.

Without a name, all of them run, one after the other. The exit status is 1 if one fails.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.frame import ROOT


class Soak(NamedTuple):
    """A long run: a function, as `module:name`, that takes some of the options and returns whether it passed."""

    function: str
    options: str
    help: str

    def __call__(self, options: argparse.Namespace) -> bool:
        """Run it. Its module is imported only now, since some of them import a lot."""
        module, _, name = self.function.partition(":")
        function = getattr(importlib.import_module(module), name)
        return bool(function(*[getattr(options, each) for each in self.options.split()]))


SOAKS = {
    "sizes": Soak("soak.sizes:inbound", "folder records", "load up to 10 million records; memory must stay flat"),
    "kills": Soak("soak.inbound_kills:run", "count seed", "kill syncs of a venue; no row may be lost or doubled"),
    "machine": Soak("soak.machine.run:run", "examples seed", "random syncs, kills and edits, compared with a model"),
    "inbound-airflow": Soak("soak.airflow.loads:run", "venues books", "load 4 suppliers with many venues in Airflow"),
    "search-size": Soak("soak.sizes:search", "folder offers", "patch up to 1 million records; memory must stay flat"),
    "search-kills": Soak(
        "soak.search_kills:run", "count seed", "kill runs that patch an index; no record may be wrong"
    ),
    "search-minutes": Soak("soak.airflow.minutes:run", "minutes moves", "patch an index in Airflow on time"),
    "outbound-size": Soak("soak.sizes:outbound", "folder orders", "send up to 1 million orders; memory must stay flat"),
    "outbound-kills": Soak("soak.outbound_kills:run", "count seed", "kill workers of a queue; no object may be lost"),
    "outbound-outage": Soak("soak.outbound_outage:run", "folder", "send orders during a simulated outage of an hour"),
}


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the lines of the description, and shows the defaults."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m soak",
        description=__doc__,
        epilog="\n".join(["names:", *(f"  {name:<16} {soak.help}" for name, soak in SOAKS.items())]),
        formatter_class=_HelpFormatter,
    )
    add = partial(parser.add_argument, type=int, metavar="N")
    parser.add_argument("what", nargs="*", choices=[*SOAKS, []], metavar="NAME", help="what to run, see below")
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench", help="folder for databases and working files")
    add("--seed", help="machine and all kills: seed of the random choices; with None, another one each time")
    add("--records", nargs="+", default=[20_000, 200_000, 1_000_000, 10_000_000], help="sizes: records of the listings")
    add("--offers", nargs="+", default=[5000, 100_000, 1_000_000], help="search-size: records of the indexes")
    add("--orders", nargs="+", default=[10_000, 1_000_000], help="outbound-size: orders in the queues")
    add("--count", default=50, help="all kills: processes to kill")
    add("--examples", default=1000, help="machine: random stories")
    add("--venues", default=1000, help="inbound-airflow: venues per supplier")
    add("--books", default=200, help="inbound-airflow: books per venue")
    add("--minutes", default=20, help="search-minutes: minutes to watch")
    add("--moves", default=10, help="search-minutes: rebuilds of the index")
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

"""Benchmarks: this project next to its competitors, on the same database and the same services.

Without a name, all benchmarks run. If no size is changed and every competitor runs, the figures in
docs/explanation/benchmarks.md are replaced.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import database, frame, peers
from bench.frame import ROOT, Benchmark
from bench.inbound.benchmark import Inbound
from bench.measuring import WrongResult
from bench.outbound.benchmark import Outbound
from bench.search.benchmark import Search
from bench.theatres.benchmark import Theatres

BENCHMARKS: tuple[type[Benchmark], ...] = (Inbound, Theatres, Search, Outbound)
NAMES = [each.name for each in BENCHMARKS]
COMPETITORS = [competitor.name for each in BENCHMARKS for competitor in each.competitors]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("what", nargs="*", choices=[*NAMES, []], metavar="BENCHMARK", help=f"benchmarks to run: {', '.join(NAMES)}")
    add("--rounds", type=int, default=5, metavar="N", help="rounds per scenario")
    add("--only", nargs="+", default=[], choices=COMPETITORS, metavar="NAME", help="competitors to run")
    add("--folder", type=Path, default=ROOT / ".bench", help="folder for databases and working files")
    add("--records", type=int, default=200_000, metavar="N", help="inbound: records in the listing, a multiple of 1000")
    add("--theatres", type=int, default=500, metavar="N", help="theatres: number of theatres")
    add("--movies", type=int, default=60, metavar="N", help="theatres: movies per theatre")
    add("--offers", type=int, nargs="+", default=[5000, 100_000], metavar="N", help="search: records in the indexes")
    add(
        "--orders",
        type=int,
        nargs=2,
        default=[10_000, 1000],
        metavar="N",
        help="outbound: orders, without and with latency",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; returns the exit status."""
    options = parse(arguments)
    try:
        for benchmark in BENCHMARKS:
            if not options.what or benchmark.name in options.what:
                _run(benchmark, options)
    except WrongResult as wrong:
        print(f"Wrong result: {wrong}")
        return 1
    return 0


def _run(kind: type[Benchmark], options: argparse.Namespace) -> None:
    competitors = [each for each in kind.competitors if not options.only or each.name in options.only]
    if not competitors:
        return
    if any(each.is_peer for each in competitors) and not peers.are_installed(options.folder):
        print("Installing the peers")
        peers.install(options.folder)
    with database.running(options.folder) as running:
        benchmark = kind(running, options.folder, options)
        benchmark.run(competitors, options.rounds)
        measured = benchmark.measured()
    print(measured)
    if {**vars(options), "what": [], "rounds": 0} == {**vars(parse([])), "folder": options.folder, "rounds": 0}:
        frame.write(frame.PAGE, kind.heading, measured)
        print(f"Written to {frame.PAGE}")


if __name__ == "__main__":
    sys.exit(main())

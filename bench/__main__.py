"""Benchmarks: this project next to its competitors, on the same database and the same services.

Without a name, all benchmarks run. If no option of a benchmark is changed, its part of
docs/explanation/benchmarks.md is rewritten.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench import database, frame, peers
from bench.frame import PAGE, ROOT, Benchmark
from bench.inbound.benchmark import Inbound
from bench.measuring import WrongResult
from bench.outbound.benchmark import Outbound
from bench.search.benchmark import Search
from bench.theatres.benchmark import Theatres

BENCHMARKS: dict[str, type[Benchmark]] = {each.name: each for each in (Inbound, Theatres, Search, Outbound)}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [competitor.name for benchmark in BENCHMARKS.values() for competitor in benchmark.competitors]
    parser.add_argument(
        "what",
        nargs="*",
        choices=[*BENCHMARKS, []],
        metavar="BENCHMARK",
        help=f"benchmarks to run: {', '.join(BENCHMARKS)}",
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds per scenario (default: %(default)s)")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=names,
        metavar="NAME",
        help=f"competitors to run, of {', '.join(names)}",
    )
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench", help="folder for databases and working files")
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to write the results to, as Markdown")
    for benchmark in BENCHMARKS.values():
        group = parser.add_argument_group(benchmark.name, benchmark.summary)
        for option in benchmark.options:
            option.add_to(group)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; returns the exit status."""
    options = parse(arguments)
    console = frame.console()
    try:
        for name, benchmark in BENCHMARKS.items():
            competitors = [each for each in benchmark.competitors if not options.only or each.name in options.only]
            if competitors and (not options.what or name in options.what):
                _run(benchmark, competitors, options, console)
    except WrongResult as wrong:
        console.print(f"Wrong result: {wrong}", style="red")
        return 1
    return 0


def _run(
    kind: type[Benchmark], competitors: Sequence[frame.Competitor], options: argparse.Namespace, console: Console
) -> None:
    if any(each.is_peer for each in competitors) and not peers.are_installed(options.folder):
        console.print("Installing the peers")
        peers.install(options.folder)
    console.print(f"{kind.name}: {kind.summary}")
    with database.running(options.folder) as running:
        benchmark = kind(running, options.folder, options)
        benchmark.run(competitors, options.rounds, console.print)
        part = benchmark.part()
    frame.show(console, benchmark.tables())
    is_default = all(getattr(options, each.name) == each.default for each in kind.options)
    if page := options.output or (PAGE if is_default and not options.only else None):
        frame.write(page, part)
        console.print(f"Written to {page}")


if __name__ == "__main__":
    sys.exit(main())

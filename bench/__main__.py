"""`python -m bench`: the engine beside its peers, on the same listing and the same PostgreSQL."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench import peers
from bench.entries import CONTENDERS, Contender, chosen
from bench.listing import PAGE_SIZE
from bench.results import Latency, Results, markdown, show
from bench.rounds import Arena, Outcome, WrongRows, arena

ROOT = Path(__file__).parents[1]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    names = ", ".join(contender.name for contender in CONTENDERS)
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--records", type=int, default=200_000, help="of the listing, in whole pages of 1000 (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of all contenders in turn (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=f"some contenders of {names}")
    parser.add_argument(
        "--latency-ms", type=int, default=100, help="of each answer of the slow service; 0: leave it out"
    )
    parser.add_argument("--latency-pages", type=int, default=100, help="pages of the slow service (%(default)s)")
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench", help="for data and working files")
    parser.add_argument("--output", type=Path, help="the page to write (bench/results.md, if nothing is left out)")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run the rounds; returns the exit status."""
    options = arguments(given)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 220)
    contenders = chosen(options.only)
    if any(contender.is_installed_apart for contender in contenders) and not peers.are_installed(options.folder):
        console.print("Installing the peers")
        peers.install(options.folder)
    outcomes: list[Outcome] = []
    with arena(options.folder) as ring:
        for number in range(1, options.rounds + 1):
            console.print(f"Round {number} of {options.rounds}")
            for contender in contenders:
                try:
                    outcomes += ring.play(contender, options.records, lambda each: _tell(console, each))
                except WrongRows as wrong:
                    console.print(f"Wrong rows: {wrong}", style="red", markup=False)
                    return 1
        latency = _slow_service(ring, contenders, options)
        results = Results(contenders, outcomes, ring.database.version())
    show(console, results, latency)
    output = options.output
    if output is None and not options.only and options.records == 200_000:
        output = ROOT / "bench" / "results.md"
    if output is not None:
        output.write_text(markdown(results, latency), encoding="utf-8")
        console.print(f"Written to {output}", markup=False)
    return 0


def _slow_service(ring: Arena, contenders: Sequence[Contender], options: argparse.Namespace) -> Latency | None:
    """The engine's first load from a service that takes its time for each answer."""
    engine = next((contender for contender in contenders if contender.name == "engine"), None)
    if engine is None or not options.latency_ms:
        return None
    records = options.latency_pages * PAGE_SIZE
    outcome = ring.play(replace(engine, phases=("first",)), records, lambda _: None, wait=options.latency_ms)[0]
    answers = options.latency_pages + 1  # the last one is empty
    return Latency(answers, options.latency_ms, outcome.measured.seconds)


def _tell(console: Console, outcome: Outcome) -> None:
    measured = outcome.measured
    console.print(
        f"  {outcome.contender:<16} {outcome.phase:<10} {measured.seconds:8.2f} s  {measured.cpu_seconds:7.2f} s CPU"
        f"  {measured.peak:6.0f} MiB  +{measured.growth:.0f}  {outcome.wal:8.1f} MB WAL",
        markup=False,
    )


if __name__ == "__main__":
    sys.exit(main())

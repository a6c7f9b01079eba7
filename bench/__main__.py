"""`python -m bench`: the engine beside its peers on the same listing, the showtimes of many theatres beside a plain
loop, the patching of a search index beside the service's own client, and the sending of orders beside a plain loop."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from rich.console import Console

from bench import database, entries, peers, results, tables
from bench.entries import Contender
from bench.listing import PAGE_SIZE
from bench.outbound import results as outbound_results
from bench.outbound import rounds as outbound_rounds
from bench.outbound import standin as outbound_standin
from bench.results import Latency, Results
from bench.rounds import Arena, Outcome, WrongRows, arena
from bench.search import results as search_results
from bench.search import rounds as search_rounds
from bench.search import standin
from bench.theatres import results as theatre_results
from bench.theatres import rounds as theatre_rounds
from bench.theatres import standin as theatre_standin
from bench.theatres.data import Programme

ROOT = Path(__file__).parents[1]
RECORDS = 200_000
OFFERS = (5000, 100_000)
SEARCH_LATENCIES = (0.0, 50.0)
ORDERS = (10_000, 1000)
OUTBOUND_LATENCIES = (0.0, 50.0)
THEATRES = {"theatres": 500, "movies": 60, "theatre_latency_ms": 50.0, "at_once": 8}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    names = ", ".join(
        each.name
        for each in (
            *entries.CONTENDERS,
            *theatre_rounds.CONTENDERS,
            *search_rounds.CONTENDERS,
            *outbound_rounds.CONTENDERS,
        )
    )
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*PARTS, []], help="all without")
    parser.add_argument(
        "--records", type=int, default=RECORDS, help="of the listing, in whole pages of 1000 (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of all contenders in turn (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=f"some contenders of {names}")
    parser.add_argument(
        "--latency-ms", type=int, default=100, help="of each answer of the slow listing; 0: leave it out"
    )
    parser.add_argument("--latency-pages", type=int, default=100, help="pages of the slow listing (%(default)s)")
    parser.add_argument("--theatres", type=int, default=THEATRES["theatres"], help="venues (%(default)s)")
    parser.add_argument("--movies", type=int, default=THEATRES["movies"], help="of each theatre (%(default)s)")
    parser.add_argument(
        "--theatre-latency-ms",
        type=float,
        default=THEATRES["theatre_latency_ms"],
        help="of each theatre's answer (%(default)s)",
    )
    parser.add_argument(
        "--at-once", type=int, default=THEATRES["at_once"], help="theatres that may be asked for (%(default)s)"
    )
    parser.add_argument("--offers", type=int, nargs="+", default=list(OFFERS), help="sizes of the index (%(default)s)")
    parser.add_argument(
        "--search-latency-ms",
        type=float,
        nargs="+",
        default=list(SEARCH_LATENCIES),
        help="of each answer of the search service (%(default)s)",
    )
    parser.add_argument(
        "--orders", type=int, nargs="+", default=list(ORDERS), help="to send, per --outbound-latency-ms (%(default)s)"
    )
    parser.add_argument(
        "--outbound-latency-ms",
        type=float,
        nargs="+",
        default=list(OUTBOUND_LATENCIES),
        help="of each answer of the target (%(default)s)",
    )
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench", help="for data and working files")
    parser.add_argument("--output", type=Path, help="the page to write (bench/results.md, if nothing is left out)")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run the rounds; returns the exit status."""
    options = arguments(given)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 220)
    chosen_here = [name for name, chosen in NAMES.items() if not options.only or chosen & {*options.only}]
    try:
        for name in options.what or chosen_here or PARTS:
            PARTS[name](console, options)
    except (WrongRows, standin.WrongRecords, outbound_standin.WrongObjects) as wrong:
        console.print(f"Wrong: {wrong}", style="red", markup=False)
        return 1
    return 0


def inbound(console: Console, options: argparse.Namespace) -> None:
    """The engine beside its peers."""
    contenders = entries.chosen([name for name in options.only if name not in ELSEWHERE])
    if any(contender.is_installed_apart for contender in contenders) and not peers.are_installed(options.folder):
        console.print("Installing the peers")
        peers.install(options.folder)
    outcomes: list[Outcome] = []
    with arena(options.folder) as ring:
        for number in range(1, options.rounds + 1):
            console.print(f"Round {number} of {options.rounds}")
            for contender in contenders:
                outcomes += ring.play(contender, options.records, lambda each: _tell(console, each))
        latency = _slow_service(ring, contenders, options)
        found = Results(contenders, outcomes, ring.database.version())
    tables.show(console, results.tables(found, latency))
    _write(console, options, results.part(found, latency), is_whole=options.records == RECORDS)


def theatres(console: Console, options: argparse.Namespace) -> None:
    """The showtimes of many theatres, several at once, beside a plain loop."""
    contenders = [each for each in theatre_rounds.CONTENDERS if not options.only or each.name in options.only]
    place = theatre_rounds.Arena(options.theatres, options.movies, options.theatre_latency_ms, options.at_once)
    programme = Programme(options.theatres, options.movies, datetime.now(UTC).date() + timedelta(days=2))
    outcomes: list[theatre_rounds.Outcome] = []
    tell = partial(_tell_theatres, console)
    options.folder.mkdir(parents=True, exist_ok=True)
    console.print(place.told)
    with database.running(options.folder) as held, theatre_standin.running(programme) as url:
        for number in range(1, options.rounds + 1):
            console.print(f"Round {number} of {options.rounds}")
            outcomes += theatre_rounds.play(url, held, contenders, place, programme, folder=options.folder, tell=tell)
        version = held.version()
    found = theatre_results.TheatreResults(outcomes)
    tables.show(console, found.tables())
    is_whole = all(getattr(options, name) == usual for name, usual in THEATRES.items())
    _write(console, options, theatre_results.part(found, version), is_whole=is_whole)


def search(console: Console, options: argparse.Namespace) -> None:
    """The patching of an index beside the client's helpers."""
    contenders = [each for each in search_rounds.CONTENDERS if not options.only or each.name in options.only]
    outcomes: list[search_rounds.Outcome] = []
    tell = partial(_tell_search, console)
    options.folder.mkdir(parents=True, exist_ok=True)
    with database.running(options.folder) as held:
        for records in options.offers:
            for latency_ms in options.search_latency_ms:
                console.print(search_rounds.Arena(records, latency_ms).told)
                with standin.running(records, latency_ms) as service:
                    for number in range(1, options.rounds + 1):
                        console.print(f"Round {number} of {options.rounds}")
                        outcomes += search_rounds.play(
                            service, held, contenders, records, folder=options.folder, tell=tell
                        )
        version = held.version()
    found = search_results.SearchResults(outcomes)
    tables.show(console, found.tables())
    is_whole = options.offers == list(OFFERS) and options.search_latency_ms == list(SEARCH_LATENCIES)
    _write(console, options, search_results.part(found, version), is_whole=is_whole)


def outbound(console: Console, options: argparse.Namespace) -> None:
    """The sending of orders beside a plain loop."""
    contenders = [each for each in outbound_rounds.CONTENDERS if not options.only or each.name in options.only]
    outcomes: list[outbound_rounds.Outcome] = []
    tell = partial(_tell_outbound, console)
    options.folder.mkdir(parents=True, exist_ok=True)
    with database.running(options.folder) as held, outbound_standin.running() as service:
        for orders, latency_ms in zip(options.orders, options.outbound_latency_ms, strict=False):
            place = outbound_rounds.Arena(orders, latency_ms)
            console.print(place.told)
            for number in range(1, options.rounds + 1):
                console.print(f"Round {number} of {options.rounds}")
                outcomes += outbound_rounds.play(service, held, contenders, place, folder=options.folder, tell=tell)
        version = held.version()
    found = outbound_results.OutboundResults(outcomes)
    tables.show(console, found.tables())
    is_whole = options.orders == list(ORDERS) and options.outbound_latency_ms == list(OUTBOUND_LATENCIES)
    _write(console, options, outbound_results.part(found, version), is_whole=is_whole)


PARTS = {"inbound": inbound, "theatres": theatres, "search": search, "outbound": outbound}
NAMES = {
    "inbound": {each.name for each in entries.CONTENDERS},
    "theatres": {each.name for each in theatre_rounds.CONTENDERS},
    "search": {each.name for each in search_rounds.CONTENDERS},
    "outbound": {each.name for each in outbound_rounds.CONTENDERS},
}
ELSEWHERE = NAMES["theatres"] | NAMES["search"] | NAMES["outbound"]


def _write(console: Console, options: argparse.Namespace, part: str, *, is_whole: bool) -> None:
    output = options.output
    if output is None and not options.only and is_whole:
        output = ROOT / "bench" / "results.md"
    if output is not None:
        tables.put(output, part)
        console.print(f"Written to {output}", markup=False)


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


def _tell_theatres(console: Console, outcome: theatre_rounds.Outcome) -> None:
    measured = outcome.measured
    console.print(
        f"  {outcome.contender:<16} {outcome.phase:<10} {measured.seconds:8.2f} s  {measured.cpu_seconds:7.2f} s CPU"
        f"  {measured.peak:6.0f} MiB  +{measured.growth:.0f}  {outcome.database_seconds:8.2f} s of the database",
        markup=False,
    )


def _tell_search(console: Console, outcome: search_rounds.Outcome) -> None:
    measured = outcome.measured
    console.print(
        f"  {outcome.contender:<16} {outcome.phase:<10} {measured.seconds:8.2f} s  {measured.cpu_seconds:7.2f} s CPU"
        f"  {measured.peak:6.0f} MiB  +{measured.growth:.0f}  {outcome.requests:6,} requests"
        f"  {outcome.sent:9,} records sent",
        markup=False,
    )


def _tell_outbound(console: Console, outcome: outbound_rounds.Outcome) -> None:
    measured = outcome.measured
    console.print(
        f"  {outcome.contender:<16} {outcome.phase:<10} {measured.seconds:8.2f} s  {measured.cpu_seconds:7.2f} s CPU"
        f"  {measured.peak:6.0f} MiB  +{measured.growth:.0f}  {outcome.orders_per_second:8,.0f} orders/s"
        f"  {outcome.database_ms:6.2f} ms of the database per order",
        markup=False,
    )


if __name__ == "__main__":
    sys.exit(main())

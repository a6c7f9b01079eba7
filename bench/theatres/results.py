"""What the rounds of theatres came to: medians and ratios; as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.tables import THEATRES, Table, markdown, medians, number, rounds_of
from bench.theatres.data import DAYS, POOL
from bench.theatres.rounds import CONTENDERS, PHASES, PLAIN, Arena, Contender, Outcome
from bench.theatres.task import ALL, NONE, SOME

NAMED = {ALL: "first load", NONE: "unchanged", SOME: "1 % changed"}


@dataclass(frozen=True)
class Line:
    """Medians of a contender, by phase."""

    arena: Arena
    contender: Contender
    seconds: dict[str, float]
    cpu: dict[str, float]
    database: dict[str, float]
    peak: float
    growth: float


class TheatreResults:
    """The outcomes of a run."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.rounds = rounds_of(outcomes)
        arenas = dict.fromkeys(outcome.arena for outcome in outcomes)
        lines = (self._line(arena, each, outcomes) for arena in arenas for each in CONTENDERS)
        self.lines = [line for line in lines if line is not None]

    def _line(self, arena: Arena, contender: Contender, outcomes: Sequence[Outcome]) -> Line | None:
        own = [each for each in outcomes if each.contender == contender.name and each.arena == arena]
        if not own:
            return None
        return Line(
            arena,
            contender,
            medians(own, lambda each: each.measured.seconds),
            medians(own, lambda each: each.measured.cpu_seconds),
            medians(own, lambda each: each.database_seconds),
            max(medians(own, lambda each: each.measured.peak).values()),
            max(medians(own, lambda each: each.measured.growth).values()),
        )

    def tables(self) -> Iterable[Table]:
        """The figures; where there are three in a cell, they are those of the three phases."""
        header = [
            "listings",
            "who",
            *[f"{NAMED[phase]} s" for phase in PHASES],
            "theatres/s",
            "÷ what the service takes",
            "the plain loop ÷ this",
            "CPU s",
            "database s",
            "peak MiB of a process",
            "growth MiB",
        ]
        yield header, [self._row(line) for line in self.lines]

    def _row(self, line: Line) -> list[str]:
        def each(values: dict[str, float], digits: int) -> str:
            return " / ".join(number(values.get(phase), digits) for phase in PHASES)

        arena = line.arena
        plain = next((one for one in self.lines if one.arena == arena and one.contender.name == PLAIN), None)
        service = arena.service_seconds(line.contender)
        ratios = {phase: plain.seconds[phase] / s for phase, s in line.seconds.items()} if plain else {}
        return [
            arena.told,
            line.contender.title.format(arena.processes(line.contender)),
            *[number(line.seconds.get(phase), 2) for phase in PHASES],
            each({phase: arena.theatres / seconds for phase, seconds in line.seconds.items()}, 1),
            each({phase: seconds / service for phase, seconds in line.seconds.items()}, 2) if service else "",
            each(ratios, 2),
            each(line.cpu, 2),
            each(line.database, 2),
            number(line.peak, 0),
            number(line.growth, 0),
        ]


def part(results: TheatreResults, postgresql: str) -> str:
    """The part of the page."""
    told = (
        f"{results.rounds} rounds in turn, medians. A stand-in, in a process of its own, lists each theatre by itself: "
        f"movies of a pool {POOL} times as large, which several theatres show, with three plain showtimes a day over "
        f"{DAYS} days and one of another kind. All goes into product, offer and stock; without posters. First the "
        "tables are empty, then nothing has changed, then one showtime in a hundred is twenty minutes later. This "
        "project goes about it as the mapped tasks of the DAG do, each process with its batch of a load in the ledger; "
        "what the service takes is its answers, one after the other in each process. The plain loop takes one theatre "
        "after the other, each in a transaction; it writes every row that is listed, knows nothing of edits and "
        "bookings, and keeps no account. Seconds are those of the work, without imports, of the process that takes "
        "longest; CPU is that of all processes, database seconds are those of `pg_stat_database.active_time`. After "
        "each phase the rows are compared with what was listed: the listed showtimes are on sale, and no others."
    )
    return markdown(THEATRES, told, postgresql, results.tables())

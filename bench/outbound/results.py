"""What the rounds of sending came to: medians, ratios, aims; as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.outbound.data import POSITIONS
from bench.outbound.rounds import CALLS, CONTENDERS, OURS, PLAIN, Arena, Contender, Outcome
from bench.outbound.task import ALL, NONE
from bench.tables import OUTBOUND, Table, aims_table, markdown, medians, number, rounds_of

AIM_AT_ONCE, AIM_SLOW = 3.0, 10.0
"""How many times faster than the plain loop."""


@dataclass(frozen=True)
class Line:
    """Medians of a contender, by phase."""

    arena: Arena
    contender: Contender
    orders: int
    rate: dict[str, float]
    cpu_ms: dict[str, float]
    database_ms: dict[str, float]
    peak: float
    growth: float


class OutboundResults:
    """The outcomes of a run."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.rounds = rounds_of(outcomes)
        arenas = dict.fromkeys(outcome.arena for outcome in outcomes)
        self.lines = [
            line for arena in arenas for each in CONTENDERS if (line := self._line(arena, each, outcomes)) is not None
        ]

    def _line(self, arena: Arena, contender: Contender, outcomes: Sequence[Outcome]) -> Line | None:
        own = [each for each in outcomes if each.contender == contender.name and each.arena == arena]
        if not own:
            return None

        return Line(
            arena,
            contender,
            own[0].orders,
            medians(own, lambda each: each.orders_per_second),
            medians(own, lambda each: each.measured.cpu_seconds * 1000 / each.orders),
            medians(own, lambda each: each.database_ms),
            max(medians(own, lambda each: each.measured.peak).values()),
            max(medians(own, lambda each: each.measured.growth).values()),
        )

    def tables(self) -> Iterable[Table]:
        """The figures, and what was aimed at."""
        header = [
            "queue, target",
            "who",
            "orders/s",
            "unchanged orders/s",
            "÷ the plain loop",
            "CPU ms per order",
            "database ms per order",
            "peak MiB",
            "growth MiB",
        ]
        yield header, [self._row(line) for line in self.lines]
        yield from aims_table(self.aims())

    def _row(self, line: Line) -> list[str]:
        def each(values: dict[str, float], digits: int) -> str:
            return " / ".join(number(values.get(phase), digits) for phase in (ALL, NONE))

        fewer = f" ({line.orders:,} orders)" if line.orders != line.arena.orders else ""
        return [
            line.arena.told,
            f"{line.contender.title}{fewer}",
            number(line.rate.get(ALL), 0),
            number(line.rate.get(NONE), 0),
            each(self._ratios(line), 2),
            each(line.cpu_ms, 2),
            each(line.database_ms, 2),
            number(line.peak, 0),
            number(line.growth, 0),
        ]

    def _ratios(self, line: Line) -> dict[str, float]:
        plain = next((other for other in self.lines if other.arena == line.arena and _is_plain(other)), None)
        return {phase: rate / plain.rate[phase] for phase, rate in line.rate.items()} if plain else {}

    def aims(self) -> Iterable[tuple[str, float, str, bool]]:
        """What was aimed at: what, the figure, the aim, and whether it is reached."""
        for line in self.lines:
            ratio = self._ratios(line).get(ALL)
            if line.contender.name == OURS and ratio is not None:
                aim = AIM_SLOW if line.arena.latency_ms else AIM_AT_ONCE
                yield (
                    f"{line.arena.told}: orders/s of this project ÷ the plain loop's",
                    ratio,
                    f"≥ {aim:g}",
                    ratio >= aim,
                )


def _is_plain(line: Line) -> bool:
    return line.contender.name == PLAIN


def part(results: OutboundResults, postgresql: str) -> str:
    """The part of the page."""
    told = (
        f"{results.rounds} rounds in turn, medians. Queued orders, each with {POSITIONS} positions, go to a stand-in "
        "for a target over HTTP: a call per object, three per order; then the same orders are queued again, and "
        "nothing changed. Each phase is a process of its own, its seconds are those of the work, without imports. "
        f"This project has {CALLS} calls at once, two claimers share them; before each it asks PostgreSQL whether the "
        "service wants all workers to wait. The plain loop takes one order after the "
        "other, selects it and its positions, sends each object with requests and commits its result; it keeps what "
        "it sent too, to leave out what did not change, but no log, no locks and no failures. After each phase "
        "the stand-in tells what came: every object with its values and none twice, or nothing at all. Database time "
        "is that of `pg_stat_database.active_time`; where there are two figures, the second is of the phase without "
        "changes."
    )
    return markdown(OUTBOUND, told, postgresql, results.tables())

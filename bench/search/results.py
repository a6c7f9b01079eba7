"""What the rounds of patching came to: medians, ratios, aims; as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.search.rounds import CONTENDERS, OURS, PHASES, Arena, Contender, Outcome
from bench.search.task import ALL, NONE, QUIET, SOME
from bench.tables import SEARCH, Table, aims_table, markdown, medians, number, rounds_of

NAMED = {ALL: "all change", SOME: "1 % change", NONE: "none changes", QUIET: "quiet minute"}
MAX_QUIET = 0.3
"""Seconds that a minute without a move may take."""
MANY = 100_000


@dataclass(frozen=True)
class Line:
    """Medians of a contender, by phase."""

    arena: Arena
    contender: Contender
    seconds: dict[str, float]
    cpu: dict[str, float]
    requests: dict[str, float]
    sent: dict[str, float]
    peak: float


class SearchResults:
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
            medians(own, lambda each: each.measured.seconds),
            medians(own, lambda each: each.measured.cpu_seconds),
            medians(own, lambda each: each.requests),
            medians(own, lambda each: each.sent),
            max(medians(own, lambda each: each.measured.peak).values()),
        )

    def tables(self) -> Iterable[Table]:
        """The figures, and what was aimed at."""
        header = [
            "index, service",
            "who",
            *[f"{NAMED[phase]} s" for phase in (*PHASES, QUIET)],
            "÷ this project",
            "CPU s",
            "requests",
            "records sent",
            "peak MiB",
        ]
        yield header, [self._row(line) for line in self.lines]
        yield from aims_table(self.aims())

    def _row(self, line: Line) -> list[str]:
        def each(values: dict[str, float], digits: int) -> str:
            return " / ".join(number(values.get(phase), digits) for phase in PHASES)

        ours = self._ours(line.arena)
        ratios = {phase: line.seconds[phase] / ours.seconds[phase] for phase in PHASES} if ours else {}
        return [
            line.arena.told,
            line.contender.title,
            *[number(line.seconds.get(phase), 2) for phase in (*PHASES, QUIET)],
            each(ratios, 2),
            each(line.cpu, 2),
            each(line.requests, 0),
            each(line.sent, 0),
            number(line.peak, 0),
        ]

    def _ours(self, arena: Arena) -> Line | None:
        return next((line for line in self.lines if line.arena == arena and line.contender.name == OURS), None)

    def aims(self) -> Iterable[tuple[str, float, str, bool]]:
        """What was aimed at: what, the figure, the aim, and whether it is reached."""
        for line in self.lines:
            if line.contender.name == OURS:
                continue
            ours = self._ours(line.arena)
            if ours is None:
                continue
            aim = 2.0 if line.arena.records >= MANY else 1.0
            ratio = line.seconds[ALL] / ours.seconds[ALL]
            told = f"{line.arena.told}, {NAMED[ALL]}: {line.contender.title} ÷ this project"
            yield told, ratio, f"≥ {aim:g}", ratio >= aim
        for line in self.lines:
            if QUIET in line.seconds:
                seconds = line.seconds[QUIET]
                yield f"{line.arena.told}: seconds of a quiet minute", seconds, "< 0.3", seconds < MAX_QUIET


def part(results: SearchResults, postgresql: str) -> str:
    """The part of the page."""
    told = (
        f"{results.rounds} rounds in turn, medians. The sandbox, in a process of its own, stands for the service. "
        "Before each phase an index is moved onto the one to patch in which all records lack `customerDispo`, one in a "
        "hundred has a wrong one, or none has; where there are three figures, they are those of these three phases. "
        "Each phase is a process of its own, its seconds are those of the work, without imports. This project finds "
        "the move in the log, waits for it, takes its lock and keeps its account in PostgreSQL; the client's helpers "
        "(`browse_objects`, then `partial_update_objects` with `wait_for_tasks`) are told when to run. After each "
        "phase every record is compared with what the indexer put there and the rule adds. A quiet minute is a run "
        "that finds no move."
    )
    return markdown(SEARCH, told, postgresql, results.tables())

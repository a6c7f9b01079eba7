"""What the rounds came to: medians, ratios, targets; as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.entries import YARDSTICK, Contender
from bench.rounds import Outcome
from bench.tables import INBOUND, Table, markdown, medians, number, rounds_of

PHASES = ("first", "changed", "unchanged")


@dataclass(frozen=True)
class Latency:
    """How long one listing took whose every answer took a while."""

    answers: int
    milliseconds: int
    seconds: float

    @property
    def ratio(self) -> float:
        """Seconds to answers times latency: what the provider itself takes is 1."""
        return self.seconds / (self.answers * self.milliseconds / 1000)


@dataclass(frozen=True)
class Line:
    """Medians of a contender; None where it has none."""

    contender: Contender
    records: int
    seconds: dict[str, float]
    cpu: dict[str, float]
    peak: float
    growth: float
    wal: float | None


class Results:
    """The outcomes of a run."""

    def __init__(self, contenders: Sequence[Contender], outcomes: Sequence[Outcome], postgresql: str) -> None:
        self.postgresql = postgresql
        self.rounds = rounds_of(outcomes)
        self.lines = [line for each in contenders if (line := self._line(each, outcomes)) is not None]

    def _line(self, contender: Contender, outcomes: Sequence[Outcome]) -> Line | None:
        own = [outcome for outcome in outcomes if outcome.contender == contender.name]
        if not own:
            return None

        return Line(
            contender,
            own[0].records,
            medians(own, lambda each: each.measured.seconds),
            medians(own, lambda each: each.measured.cpu_seconds),
            max(medians(own, lambda each: each.measured.peak).values()),
            max(medians(own, lambda each: each.measured.growth).values()),
            medians(own, lambda each: each.wal).get("unchanged"),
        )

    @property
    def records(self) -> int:
        """What most contenders loaded."""
        return max((line.records for line in self.lines), default=0)

    def header(self) -> list[str]:
        """The names of the columns."""
        return [
            f"{self.records:,} records",
            "first load s",
            "1 % changed s",
            "unchanged s",
            "CPU s, first / unchanged",
            "peak MiB",
            "growth MiB",
            "WAL MB, unchanged",
            "first ÷ yardstick",
            "unchanged ÷ yardstick",
        ]

    def rows(self) -> Iterable[list[str]]:
        """The cells of each contender."""
        for line in self.lines:
            fewer = f" ({line.records:,} records)" if line.records != self.records else ""
            is_yardstick = line.contender.module == "yardstick"  # psql, of which nothing is measured but its seconds
            yield [
                f"{line.contender.title}{fewer}",
                *[number(line.seconds.get(phase), 2) for phase in PHASES],
                f"{number(line.cpu.get('first'), 2)} / {number(line.cpu.get('unchanged'), 2)}",
                "" if is_yardstick else number(line.peak, 0),
                "" if is_yardstick else number(line.growth, 0),
                number(line.wal, 1),
                number(self._ratio(line, "first", "first"), 2),
                number(self._ratio(line, "unchanged", "unchanged"), 2),
            ]

    def _ratio(self, line: Line, phase: str, to_phase: str, to: str = YARDSTICK) -> float | None:
        """Seconds per record of one phase, to those of another contender's phase."""
        other = next((each for each in self.lines if each.contender.name == to), None)
        if other is None or phase not in line.seconds or to_phase not in other.seconds:
            return None
        return (line.seconds[phase] / line.records) / (other.seconds[to_phase] / other.records)

    def targets(self) -> Iterable[tuple[str, float, str, bool]]:
        """What was aimed at: what, the figure, the aim, and whether it is reached."""
        for line in self.lines:
            if line.contender.module != "engine":
                continue
            title = line.contender.title
            for phase, to_phase, aim in (
                ("first", "first", 1.5),
                ("changed", "unchanged", 1.2),
                ("unchanged", "unchanged", 1.0),
            ):
                ratio = self._ratio(line, phase, to_phase)
                if ratio is not None:
                    named = {"first": "first load", "changed": "1 % changed", "unchanged": "unchanged"}[phase]
                    told = f"{title}: {named} ÷ the yardstick's {named if phase != 'changed' else 'unchanged'}"
                    yield told, ratio, f"≤ {aim:.1f}", ratio <= aim
            for peer in self.lines:
                for phase in ("first", "unchanged"):
                    ratio = self._ratio(peer, phase, phase, line.contender.name)
                    aim = {"dlt": (7, 14), "hook": (2, 4.5)}.get(peer.contender.name, (0, 0))[phase != "first"]
                    if ratio is not None and aim:
                        named = "first load" if phase == "first" else phase
                        yield f"{peer.contender.title} ÷ {title}: {named}", ratio, f"≥ {aim:g}", ratio >= aim
            if line.wal is not None:
                yield f"{title}: WAL MB when nothing changed", line.wal, "< 1", line.wal < 1
            yield f"{title}: growth of memory, MiB", line.growth, "< 30", line.growth < 30


def tables(results: Results, latency: Latency | None) -> Iterable[Table]:
    """The figures, and what was aimed at."""
    yield results.header(), list(results.rows())
    targets = [
        [told, number(value, 2), aim, "yes" if reached else "no"] for told, value, aim, reached in results.targets()
    ]
    if latency is not None:
        told = f"{latency.answers} answers of {latency.milliseconds} ms: seconds ÷ what the service takes"
        targets.append([told, number(latency.ratio, 3), "≤ 1.1", "yes" if latency.ratio <= 1.1 else "no"])
    if targets:
        yield ["aim", "figure", "to reach", "reached"], targets


def part(results: Results, latency: Latency | None) -> str:
    """The part of the page."""
    told = (
        f"{results.rounds} rounds of every contender in turn, medians. A local HTTP server lists the records in pages "
        "of 1000; each phase of each contender is a process of its own, and its seconds are those of the work, without "
        "imports. The rows that each leaves are compared with what was listed. Before each phase the table is vacuumed "
        "and a checkpoint made, as autovacuum and the checkpointer do between two runs."
    )
    return markdown(INBOUND, told, results.postgresql, tables(results, latency))

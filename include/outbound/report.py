"""What a worker did, as counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from include.outbound.send import SendResult

MAX_EXAMPLES = 20


@dataclass
class DrainReport:
    """Counts of one worker: orders (or offers) and objects by outcome, parked ones by reason.

    `released` counts the rows that crashed workers had left in flight. `down` is why the circuit breaker opened, None
    if it did not. `examples` are up to MAX_EXAMPLES failures, as `code: message`.
    """

    orders: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    parked: Counter[str] = field(default_factory=Counter)
    released: int = 0
    seconds: float = 0.0
    down: str | None = None
    examples: list[str] = field(default_factory=list)

    def add(self, result: SendResult) -> None:
        """Count the objects of a result, and its order unless it failed."""
        for sent in result.objects:
            self.objects[sent.outcome] += 1
        if result.error is None:
            self.orders["sent" if result.is_accepted else "nothing_to_do"] += 1

    def add_failure(self, label: str, error: str, reason: str | None) -> None:
        """Count an order that failed; `reason` is why it was parked, None if it is retried."""
        if reason:
            self.parked[reason] += 1
        self.orders["parked" if reason else "retry"] += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(f"{label}: {error}")

    def counts(self) -> dict[str, Any]:
        """Return the report without its examples, for the database and XCom."""
        return {
            "orders": dict(self.orders),
            "objects": dict(self.objects),
            "parked": dict(self.parked),
            "released": self.released,
            "seconds": round(self.seconds, 3),
            "down": self.down,
        }

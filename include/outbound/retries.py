"""When to try again."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_SECONDS = 60.0
MAX_SECONDS = 6 * 3600.0


def backoff(failures: int, *, jitter: Callable[[], float] = random.random) -> float:
    """Seconds to wait after so many failures: one minute, four, sixteen, up to six hours, each from half to whole."""
    whole = min(MAX_SECONDS, FIRST_SECONDS * 4.0 ** max(0, failures - 1))
    return whole * (0.5 + 0.5 * jitter())

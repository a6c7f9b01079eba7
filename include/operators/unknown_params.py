"""What to say about a parameter that a DAG does not have. It needs no Airflow: the command line says it too."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

MAX_NAMED = 10
MAX_NAME_LENGTH = 60


def unknown_params(given: Iterable[str], known: Collection[str]) -> str | None:
    """What is wrong with the names of a run's parameters, to follow the DAG's name; None if all of them are known.

    Names the parameter that was probably meant: `has no parameter dryrun (did you mean dry_run?); it has: …`.
    """
    wrong = sorted(name for name in given if name not in known)
    if not wrong:
        return None
    plain = {_plain(name): name for name in known}
    named = []
    for name in wrong[:MAX_NAMED]:
        close = get_close_matches(_plain(name[:MAX_NAME_LENGTH]), plain, n=1)
        hint = f" (did you mean {plain[close[0]]}?)" if close else ""
        named.append((name if len(name) <= MAX_NAME_LENGTH else f"{name[:MAX_NAME_LENGTH]}…") + hint)
    if len(wrong) > MAX_NAMED:
        named.append(f"and {len(wrong) - MAX_NAMED} more")
    return f"has no parameter {', '.join(named)}; it has: {', '.join(known) or 'none'}"


def _plain(name: str) -> str:
    """A name without what people vary: case, hyphens, underscores."""
    return "".join(filter(str.isalnum, name)).lower()

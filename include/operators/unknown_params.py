"""The error text for a parameter that a DAG does not have. Free of Airflow, since `local` uses it, too."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

MAX_NAMED = 10
MAX_NAME_LENGTH = 60


def unknown_params(given: Iterable[str], known: Collection[str]) -> str | None:
    """Return an error text about unknown parameters that follows the name of the DAG; None if all are known.

    It suggests the intended parameter: `has no parameter dryrun (did you mean dry_run?); it has: …`.
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
    """Return a name in lowercase, without hyphens and underscores."""
    return "".join(filter(str.isalnum, name)).lower()

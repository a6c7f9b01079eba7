"""What people are told of the patching of an index: title, facts and tone of a card."""

from __future__ import annotations

from typing import Any

from include.connectors.teams import adaptive_card
from include.search.report import PassReport, shown
from include.search.watch import RunReport

MOST_VALUES = 12
"""Different values shown per patch."""


def patched(index: str, run: RunReport, report: PassReport) -> Any:
    """The card of a patch."""
    facts: dict[str, object] = {}
    if run.moves:
        last = run.moves[-1]
        facts["Moved"] = f"{last.source} onto {index} at {last.at:%Y-%m-%d %H:%M:%S} UTC"
        facts["Patched after"] = f"{(run.finished_at - last.at).total_seconds():.0f} s"
    else:
        facts["Because"] = run.reason
    if run.restarts:
        facts["Began anew"] = f"{run.restarts} times: the index was rebuilt meanwhile"
    title = f"{index}: patched" if run.is_finished else f"{index}: rebuilt faster than it can be patched"
    return adaptive_card(title, facts=facts | _counts(report), tone="good" if run.is_finished else "bad")


def dry_run(index: str, run: RunReport) -> Any:
    """The test card of a dry run."""
    facts = _counts(run.report) if run.report else {}
    return adaptive_card(f"{index}: test message of a dry run", text=run.summary, facts=facts)


def _counts(report: PassReport) -> dict[str, object]:
    facts: dict[str, object] = {
        "Records read": f"{report.read:,}",
        "Differed": f"{report.changed:,}",
        "Seconds": f"{report.seconds:.1f}",
    }
    for name, counts in report.patches.items():
        usual = sorted(counts.values.items(), key=lambda item: -item[1])[:MOST_VALUES]
        facts[name] = ", ".join(f"{shown(value)} {number:,}" for value, number in usual)
        if counts.remarks:
            facts[f"{name}, odd"] = "; ".join(f"{remark}: {number:,}" for remark, number in counts.remarks.items())
    return facts

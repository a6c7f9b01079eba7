"""Alerts about patched indices."""

from __future__ import annotations

from include.models.alerts import Alert
from include.search.report import PassReport, readable
from include.search.watch import RunReport

MAX_VALUES = 12
"""Different values listed per patch."""


def patched(index: str, run: RunReport, report: PassReport, *, url: str = "") -> Alert:
    """Return the alert of a run that patched an index, or that could not keep up with its rebuilds."""
    facts: dict[str, object] = {}
    if run.moves:
        last = run.moves[-1]
        facts["Moved"] = f"{last.source} onto {index} at {last.at:%Y-%m-%d %H:%M:%S} UTC"
        facts["Patched after"] = f"{(run.finished_at - last.at).total_seconds():.0f} s"
    else:
        facts["Because"] = run.reason
    if run.restarts:
        facts["Restarted"] = f"{run.restarts} times, because the index was rebuilt meanwhile"
    title = f"{index}: patched" if run.is_finished else f"{index}: rebuilt faster than it can be patched"
    return Alert(title=title, facts=facts | _counts(report), tone="good" if run.is_finished else "bad", url=url)


def dry_run(index: str, run: RunReport, *, url: str = "") -> Alert:
    """Return the test message of a dry run."""
    facts = _counts(run.report) if run.report else {}
    return Alert(title=f"{index}: test message of a dry run", body=run.summary, facts=facts, url=url)


def _counts(report: PassReport) -> dict[str, object]:
    facts: dict[str, object] = {
        "Records read": f"{report.read:,}",
        "Differed": f"{report.changed:,}",
        "Seconds": f"{report.seconds:.1f}",
    }
    for name, counts in report.patches.items():
        most_frequent = sorted(counts.values.items(), key=lambda item: -item[1])[:MAX_VALUES]
        facts[name] = ", ".join(f"{readable(value)} {number:,}" for value, number in most_frequent)
        if counts.remarks:
            facts[f"{name}, odd"] = "; ".join(f"{remark}: {number:,}" for remark, number in counts.remarks.items())
    return facts

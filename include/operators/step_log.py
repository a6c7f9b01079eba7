"""A sync as its task log shows it: one group per step, whose title says how much it did and how long it took.

Groups fold in Airflow's web UI and may lie in each other; folded, the titles are the summary.
"""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from include.connectors.http import Stats
    from include.models import LinkStanding
    from include.models.report import SyncReport
    from include.search.watch import RunReport
    from include.store.rejected import Example

log = logging.getLogger(__name__)

MAX_LINE = 120
"""Characters of a line that the log view shows without scrolling on a laptop's screen."""
MAX_NAME = 32
"""Characters of a venue in the table of links."""
MAX_VALUE_LENGTH = 80
"""Characters of a field's value in a dry run's differences."""


@contextmanager
def group(title: str, *arguments: object) -> Iterator[None]:
    """Put what is logged inside into a group."""
    log.info(f"::group::{title}", *arguments)  # noqa: G004 - the mark belongs to the title
    try:
        yield
    finally:
        log.info("::endgroup::")


def log_text(level: int, text: str) -> None:
    """Log a long text in lines that need no scrolling; its own line breaks stay."""
    for line in text.splitlines():
        for part in textwrap.wrap(line, MAX_LINE, subsequent_indent="  ", break_on_hyphens=False) or [""]:
            log.log(level, "%s", part)


def log_outcome(label: str, report: SyncReport) -> None:
    """Log what a sync did, as a warning with the reasons if records were rejected."""
    log_text(logging.WARNING if report.rejected else logging.INFO, f"{label}: {report.summary()}")
    for reason, count in sorted(report.reasons.items(), key=lambda item: -item[1])[:MAX_REASONS]:
        log_text(logging.WARNING, f"  {count:,} rejected: {reason}")


MAX_REASONS = 3
"""Reasons for rejections that stand outside the folded groups of a log."""
HOW_TO_REPLAY = (
    "To replay: look at `SELECT * FROM rejected_report WHERE resolution IS NULL`, repair the payload (`UPDATE "
    "rejected_record SET payload = '…' WHERE id = …`) or the parser, then run the DAG with replay_rejected"
)


def log_steps(report: SyncReport, stats: Stats | None, examples: Sequence[Example] = ()) -> None:
    """Log the four steps of a sync, what was rejected with some examples, and in a dry run the first differences."""
    with group("Fetch: waited %.2f s for pages", report.fetch_seconds):
        if stats is None:
            log.info("The source is not reached by HTTP")
        else:
            log.info(
                "%s requests, %s of them asked again; %.2f MB in %.2f s; %.2f s of pace and back-off",
                stats.requests, stats.retries, stats.bytes / 1e6, stats.seconds, stats.waited,
            )  # fmt: skip
    with group("Iterate: %s records in %.2f s", f"{report.records:,}", report.iterate_seconds):
        log.info("%s objects in %s chunks", f"{report.checked:,}", report.chunks)
    with group("Diff: %s objects in %.2f s", f"{report.checked:,}", report.diff_seconds):
        log.info("%s unchanged, %s skipped", f"{report.unchanged:,}", f"{report.skipped:,}")
        if report.held_back:
            fields = ", ".join(f"{name} {count:,}" for name, count in sorted(report.held_back_fields.items()))
            log.info(
                "%s held back, which people edited (the view fields_held_back): %s", f"{report.held_back:,}", fields
            )
    would = "would be " if report.dry_run else ""
    changed = (f"{report.created:,} {would}created", f"{report.updated:,} {would}updated")
    with group("Upsert: %s, %s in %.2f s", *changed, report.upsert_seconds):
        if would:
            log.info("A dry run writes nothing")
        if report.moved:
            log.info("%s moved: they took over another key, with their bookings", f"{report.moved:,}")
        if report.gone:
            log.info("%s %sgone, since the listing no longer has them", f"{report.gone:,}", would)
    if report.checked_thumbs:
        with group("Pictures: %s in %.2f s", f"{report.checked_thumbs:,}", report.thumb_seconds):
            log.info("%s created, %s updated", f"{report.created_thumbs:,}", f"{report.updated_thumbs:,}")
            for reason, count in sorted(report.thumb_errors.items(), key=lambda item: -item[1]):
                log.warning("%s failed: %s", f"{count:,}", reason)
    if report.rejected:
        with group("Rejected: %s records", f"{report.rejected:,}"):
            for reason, count in sorted(report.reasons.items(), key=lambda item: -item[1]):
                log.warning("%s of them: %s", f"{count:,}", reason)
            _log_examples(examples)
    if report.dry_run:
        with group("Differences: the first %s", len(report.differences)):
            for difference in report.differences:
                log.info("%s", _told(difference))


def log_rejected(examples: Sequence[Example]) -> None:
    """Log examples of what was rejected, of a link that failed over it: its error counts the reasons."""
    with group("Rejected: the first %s records", len(examples)):
        _log_examples(examples)


def _log_examples(examples: Sequence[Example]) -> None:
    for example in examples:
        log.info(
            "rejected_record %s, %s: %s", example.id, example.reference or "of an unknown reference", example.reason
        )
    if examples:
        log_text(logging.INFO, HOW_TO_REPLAY)


def log_patch(run: RunReport) -> None:
    """Log what a look at a search index came to: the counts per value, what is odd, in a dry run the first changes."""
    from include.search.report import readable

    if (report := run.report) is None:
        log.info("%s", run.summary)
        return
    would = "would change" if run.dry_run else "changed"
    for name, counts in report.patches.items():
        with group("%s: %s records %s", name, f"{counts.changed:,}", would):
            for value, number in sorted(counts.values.items(), key=lambda item: -item[1]):
                log.info("%8s  %s", f"{number:,}", readable(value))
            log.info("%8s  left alone", f"{counts.left_alone:,}")
        if counts.remarks:
            with group("%s: %s records are odd", name, f"{sum(counts.remarks.values()):,}"):
                for remark, number in counts.remarks.items():
                    log.warning("%s of them: %s", f"{number:,}", remark)
    if run.dry_run and report.samples:
        with group("The first %s records that would change", len(report.samples)):
            for sample in report.samples:
                after, before = sample["after"], sample["before"]
                fields = (
                    f"{name} {_short(before[name]) if name in before else '(none)'} → {_short(value)}"
                    for name, value in after.items()
                )
                log.info("%s: %s", sample["objectID"], ", ".join(fields))
    log.info("%s", run.summary)


def log_links(links: Sequence[LinkStanding]) -> None:
    """Log a table of venue links, one line per link."""
    head = ("link", "venue", "provider", "on sale", "offers", "active", "last sync (UTC)", "id there", "SIRET")
    lines = [head] + [
        (
            str(link.id),
            _cut(f"{link.venue_name} ({link.venue_id})", MAX_NAME),
            link.provider,
            f"{link.stocks_on_sale:,}",
            f"{link.offers:,}",
            "yes" if link.is_active else "no",
            f"{link.last_sync_date.astimezone(UTC):%Y-%m-%d %H:%M}" if link.last_sync_date else "never",
            link.venue_id_at_offer_provider,
            link.siret or "",
        )
        for link in links
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.rjust(width) if place in _NUMBERS else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        log.info("%s", "  ".join(cells).rstrip())


_NUMBERS = (0, 3, 4)
"""Columns of that table that are aligned to the right."""


def _told(difference: dict[str, Any]) -> str:
    is_new = difference["change"] == "create"
    fields = ", ".join(
        f"{name} {_short(after)}" if is_new else f"{name} {_short(before)} → {_short(after)}"
        for name, (before, after) in difference["fields"].items()
    )
    return f"{difference['change']} {difference['table']} {difference['key']}: {fields}"


def _short(value: Any) -> str:
    return _cut("null" if value is None else repr(value), MAX_VALUE_LENGTH)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"

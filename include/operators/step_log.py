"""Logs of syncs, patches and venue links.

A sync has one log group per step, with its counts and its duration in the title. Airflow's web UI folds groups, which
may be nested; the folded titles are a summary.
"""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Any

from include.texts import shortened

if TYPE_CHECKING:
    from include.connectors.http import Stats
    from include.models import LinkStatus
    from include.models.report import SyncReport
    from include.search.watch import RunReport
    from include.store.rejected import Example

log = logging.getLogger(__name__)

MAX_LINE = 120
"""Length of a line that the log view shows on a laptop without scrolling."""
MAX_NAME = 32
"""Maximum length of a venue in the table of links."""
MAX_VALUE_LENGTH = 80
"""Maximum length of a field's value in the differences of a dry run."""
MAX_REASONS = 3
"""Maximum number of reasons for rejections that are logged outside the folded groups."""
RIGHT_ALIGNED = (0, 3, 4)
"""Columns with numbers in the table of links."""
HOW_TO_REPLAY = (
    "To replay: look at `SELECT * FROM rejected_report WHERE resolution IS NULL`, repair the payload (`UPDATE "
    "rejected_record SET payload = '…' WHERE id = …`) or the parser, then run the DAG with replay_rejected"
)


@contextmanager
def group(title: str, *arguments: object) -> Iterator[None]:
    """Put the lines that are logged inside into a group."""
    log.info(f"::group::{title}", *arguments)  # noqa: G004 - the prefix belongs to the title
    try:
        yield
    finally:
        log.info("::endgroup::")


def log_text(level: int, text: str) -> None:
    """Log a long text, wrapped to lines that need no scrolling; its own line breaks stay."""
    for line in text.splitlines():
        for part in textwrap.wrap(line, MAX_LINE, subsequent_indent="  ", break_on_hyphens=False) or [""]:
            log.log(level, "%s", part)


def log_outcome(label: str, report: SyncReport) -> None:
    """Log the summary of a sync; if records were rejected, as a warning with the main reasons."""
    log_text(logging.WARNING if report.rejected else logging.INFO, f"{label}: {report.summary()}")
    for reason, count in sorted(report.reasons.items(), key=lambda item: -item[1])[:MAX_REASONS]:
        log_text(logging.WARNING, f"  {count:,} rejected: {reason}")


def log_steps(report: SyncReport, stats: Stats | None, examples: Sequence[Example] = ()) -> None:
    """Log the steps of a sync, rejected records with some examples, and in a dry run the first differences."""
    with group("Fetch: waited %.2f s for pages", report.fetch_seconds):
        if stats is None:
            log.info("The source does not use HTTP")
        else:
            log.info(
                "%s requests, %s of them retries; %.2f MB in %.2f s; %.2f s waited for the rate limit and back-off",
                stats.requests, stats.retries, stats.bytes / 1e6, stats.seconds, stats.waited,
            )  # fmt: skip
    with group("Read: %s records in %.2f s", f"{report.records:,}", report.iterate_seconds):
        log.info("%s objects in %s chunks", f"{report.checked:,}", report.chunks)
    with group("Compare: %s objects in %.2f s", f"{report.checked:,}", report.diff_seconds):
        log.info("%s unchanged, %s skipped", f"{report.unchanged:,}", f"{report.skipped:,}")
        if report.held_back:
            fields = ", ".join(f"{name} {count:,}" for name, count in sorted(report.held_back_fields.items()))
            log.info(
                "%s with manual overrides kept (see the view fields_held_back): %s", f"{report.held_back:,}", fields
            )
    would = "would be " if report.dry_run else ""
    changed = (f"{report.created:,} {would}created", f"{report.updated:,} {would}updated")
    with group("Fill and write: %s, %s in %.2f s", *changed, report.upsert_seconds):
        if would:
            log.info("Dry run: nothing was written")
        if report.moved:
            log.info(
                "%s rekeyed: the provider changed their keys; their rows and bookings were kept", f"{report.moved:,}"
            )
        if report.gone:
            log.info("%s %sremoved: the listing no longer has them", f"{report.gone:,}", would)
    if report.checked_thumbs:
        with group("Images: %s in %.2f s", f"{report.checked_thumbs:,}", report.thumb_seconds):
            log.info("%s created, %s updated", f"{report.created_thumbs:,}", f"{report.updated_thumbs:,}")
            for reason, count in sorted(report.thumb_errors.items(), key=lambda item: -item[1]):
                log.warning("%s failed: %s", f"{count:,}", reason)
    if report.rejected:
        with group("Rejected: %s records", f"{report.rejected:,}"):
            for reason, count in sorted(report.reasons.items(), key=lambda item: -item[1]):
                log.warning("%s: %s", f"{count:,}", reason)
            _log_examples(examples)
    if report.dry_run:
        with group("Differences: the first %s", len(report.differences)):
            for difference in report.differences:
                log.info("%s", _described(difference))


def log_rejected(examples: Sequence[Example]) -> None:
    """Log examples of rejected records for a link that exceeded its error budget; its error counts the reasons."""
    with group("Rejected: the first %s records", len(examples)):
        _log_examples(examples)


def _log_examples(examples: Sequence[Example]) -> None:
    for example in examples:
        log.info("rejected_record %s, %s: %s", example.id, example.reference or "unknown reference", example.reason)
    if examples:
        log_text(logging.INFO, HOW_TO_REPLAY)


def log_patch(run: RunReport) -> None:
    """Log a run on a search index: counts per value, remarks, and in a dry run the first changes."""
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
            with group("%s: %s records with remarks", name, f"{sum(counts.remarks.values()):,}"):
                for remark, number in counts.remarks.items():
                    log.warning("%s: %s", f"{number:,}", remark)
    if run.dry_run and report.samples:
        with group("First %s records that would change", len(report.samples)):
            for sample in report.samples:
                after, before = sample["after"], sample["before"]
                fields = (
                    f"{name} {_short(before[name]) if name in before else '(none)'} → {_short(value)}"
                    for name, value in after.items()
                )
                log.info("%s: %s", sample["objectID"], ", ".join(fields))
    log.info("%s", run.summary)


def log_links(links: Sequence[LinkStatus]) -> None:
    """Log a table of venue links, one line per link."""
    head = ("link", "venue", "provider", "on sale", "offers", "active", "last sync (UTC)", "id there", "SIRET")
    lines = [head] + [
        (
            str(link.id),
            shortened(f"{link.venue_name} ({link.venue_id})", MAX_NAME),
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
            cell.rjust(width) if column in RIGHT_ALIGNED else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        log.info("%s", "  ".join(cells).rstrip())


def _described(difference: dict[str, Any]) -> str:
    is_new = difference["change"] == "create"
    fields = ", ".join(
        f"{name} {_short(after)}" if is_new else f"{name} {_short(before)} → {_short(after)}"
        for name, (before, after) in difference["fields"].items()
    )
    return f"{difference['change']} {difference['table']} {difference['key']}: {fields}"


def _short(value: Any) -> str:
    return shortened("null" if value is None else repr(value), MAX_VALUE_LENGTH)

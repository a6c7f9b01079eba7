"""Fills and empties the queue of an outbound target."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from include.errors import FatalError, ServiceUnavailable
from include.operators.connections import SYNC_DB, connector_for, database
from include.operators.step_log import group

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Context

    from include.outbound.base import OutboundSyncProvider

log = logging.getLogger(__name__)

ORDERS_PER_CLAIMER = 500
MOST_PREVIEWED = 50


class OpenOutboundOperator(BaseOperator):
    """Put into the queue what changed, or what the run's parameters ask for, and deal out the claimers.

    A backfill run queues the orders that were placed in its interval.

    :param target: dotted path of the target's class.
    :param at_most_claimers: how many mapped tasks may empty the queue side by side.
    """

    ui_color = "#dbeafe"

    def __init__(self, *, target: str, at_most_claimers: int = 4, conn_id: str = SYNC_DB, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target = target
        self.at_most_claimers = at_most_claimers
        self.conn_id = conn_id

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Fill the queue; returns one entry per claimer."""
        from include.outbound import requests
        from include.outbound.feed import feed_queue
        from include.outbound.targets import load_target
        from include.store import outbound as store

        target = load_target(self.target)
        run, params = context["dag_run"], context["params"]
        is_backfill = str(getattr(run.run_type, "value", run.run_type)) == "backfill"
        with database(self.conn_id) as connection:
            connection.autocommit = True
            if params.get("dry_run"):
                return [{"claimer": 0, "of": 1}]
            if is_backfill:
                interval = (run.data_interval_start, run.data_interval_end)
                log.info(
                    "Queued %s orders placed in the interval", requests.queue_interval(connection, target, *interval)
                )
            else:
                log.info("Changes: %s", feed_queue(connection, [target]) or "none")
            requests.carry_out(connection, target, params)
            due = store.due(connection, target.identifier, self.at_most_claimers * ORDERS_PER_CLAIMER)
        claimers = max(1, min(self.at_most_claimers, target.concurrency, -(-due // ORDERS_PER_CLAIMER)))
        log.info("%s%s objects are due: %s claimers", f"{due:,}", " or more" if claimers > 1 else "", claimers)
        return [{"claimer": number, "of": claimers} for number in range(claimers)]


class OutboundSyncOperator(BaseOperator):
    """Send what is due in the queue of a target.

    What fails and may pass is tried again by the queue, not by Airflow; an object that waits for a person does not
    fail the task. The task fails when the target takes nothing at all.

    :param target: dotted path of the target's class.
    :param claimer: `{"claimer": …, "of": …}`: which of how many; the calls that the target allows are shared out.
    """

    template_fields: Sequence[str] = ("claimer",)
    ui_color = "#fef9c3"

    def __init__(
        self, *, target: str, claimer: dict[str, int] | None = None, conn_id: str = SYNC_DB, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.target = target
        self.claimer = claimer or {"claimer": 0, "of": 1}
        self.conn_id = conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Empty the queue; returns the counts."""
        from include.outbound.drain import drain
        from include.outbound.targets import load_target

        target = load_target(self.target)
        run, params = context["dag_run"], context["params"]
        number, of = self.claimer["claimer"], self.claimer["of"]
        calls = target.concurrency // of + (number < target.concurrency % of)
        with database(self.conn_id) as connection, connector_for(target) as connector:
            connection.autocommit = True
            if params.get("dry_run"):
                return self._preview(connection, target, params)
            report = drain(
                target,
                connection,
                connector=connector,
                calls_at_once=max(1, calls),
                limit=params.get("limit"),
                anyway=bool(params.get("send_unchanged")),
                run_id=f"{run.dag_id}/{run.run_id}",
            )
        log.info("%s", told(report.counts()))
        for example in report.examples:
            log.warning("%s", example)
        return report.counts()

    def _preview(
        self, connection: psycopg.Connection[Any], target: type[OutboundSyncProvider], params: Any
    ) -> dict[str, Any]:
        """Log what would be sent of the chosen orders, and which fields would change; send nothing."""
        from include.outbound.preview import preview

        counts: Counter[str] = Counter()
        for code, sent in preview(connection, target, params.get("orders") or (), params.get("event")):
            counts[sent.outcome] += 1
            with group("%s, mapping %s%s: %s", code, sent.mapping_id,
                       f", position {sent.position_id}" if sent.position_id else "", sent.outcome):  # fmt: skip
                for name, value in sent.payload.items():
                    log.info("%s %s = %r", "*" if name in sent.changed else " ", name, value)
                for message in sent.error.messages if sent.error else ():
                    log.warning("%s", message)
        log.info("Dry run: nothing was sent. A star marks what would change: %s", dict(counts) or "no object")
        return {"dry_run": True, "objects": dict(counts)}


class CloseOutboundOperator(BaseOperator):
    """Sum up what the claimers did; fails when the target takes nothing.

    :param target: dotted path of the target's class.
    :param sent_by: task id of the `OutboundSyncOperator`.
    :param retention_days: what was sent is kept in the log for so many days.
    """

    ui_color = "#dcfce7"

    def __init__(
        self, *, target: str, sent_by: str, retention_days: int = 90, conn_id: str = SYNC_DB, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.target = target
        self.sent_by = sent_by
        self.retention_days = retention_days
        self.conn_id = conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the counts of the whole run."""
        from include.outbound.targets import load_target
        from include.store import change_feed
        from include.store import outbound as store

        target = load_target(self.target)
        run = context["dag_run"]
        with database(self.conn_id) as connection:
            connection.autocommit = True
            counts = store.run_counts(connection, f"{run.dag_id}/{run.run_id}")
            store.purge_log(connection, self.retention_days)
            change_feed.purge(connection)
        if context["params"].get("dry_run"):
            return {"dry_run": True}
        log.info("%s", told(counts))
        if down := counts.get("down"):
            raise ServiceUnavailable(f"{target.name()} takes nothing: {down}")
        if not counts.get("runs"):
            raise FatalError(f"Nothing was sent: see the log of the tasks {self.sent_by}")
        return counts


def told(counts: dict[str, Any]) -> str:
    """Counts as one line."""
    orders = ", ".join(f"{number:,} {outcome}" for outcome, number in counts.get("orders", {}).items() if number)
    objects = ", ".join(f"{number:,} {outcome}" for outcome, number in counts.get("objects", {}).items() if number)
    parked = ", ".join(f"{number:,} {reason}" for reason, number in counts.get("parked", {}).items() if number)
    waiting = f"; waiting for a person: {parked}" if parked else ""
    return f"Orders: {orders or 'none'}; objects: {objects or 'none'}{waiting} ({counts.get('seconds', 0):.1f} s)"

"""Fills and empties the queue of an outbound target."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.errors import EarlierTaskFailed
from include.operators.connections import SYNC_DB, connector_for, database
from include.operators.params import OutboundParams, read_params
from include.operators.step_log import group

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Context

    from include.outbound.feed import FeedCounts
    from include.targets.base import OutboundSyncProvider

log = logging.getLogger(__name__)

ORDERS_PER_CLAIMER = 500
TAKES_NOTHING = "takes nothing"


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
        from include.outbound import actions
        from include.outbound.feed import feed_queue
        from include.store import change_feed, incidents
        from include.store import outbound as store
        from include.targets import load_target

        asked = read_params(context, OutboundParams)
        target = load_target(self.target)
        run = context["dag_run"]
        is_backfill = str(getattr(run.run_type, "value", run.run_type)) == "backfill"
        with database(self.conn_id) as connection:
            connection.autocommit = True
            if asked.dry_run:
                log.info("Dry run: the queue stays as it is")
                return [{"claimer": 0, "of": 1}]
            if is_backfill:
                interval = (run.data_interval_start, run.data_interval_end)
                log.info(
                    "Queued %s orders placed in the interval", actions.queue_interval(connection, target, *interval)
                )
            else:
                log.info("%s", _fed(feed_queue(connection, [target])[target.identifier]))
                for lag in change_feed.lags(connection):
                    if lag.is_held_back:
                        log.warning("%s", lag)
            actions.carry_out(connection, target, vars(asked))
            incident = incidents.find_incident(connection, run.dag_id)
            if incident and TAKES_NOTHING in incident.error:  # what it refused then is not to wait for a person
                again = store.retry(connection, target.identifier, reason="config")
                log.info("The target took nothing in the last run; of what it refused, %s are tried again", again)
            due = store.due(connection, target.identifier, self.at_most_claimers * ORDERS_PER_CLAIMER)
        claimers = max(1, min(self.at_most_claimers, target.concurrency, -(-due // ORDERS_PER_CLAIMER)))
        many = " or more" if due == self.at_most_claimers * ORDERS_PER_CLAIMER else ""
        log.info("%s%s to be sent now%s", f"{due:,}", many, f", by {claimers} tasks at once" if claimers > 1 else "")
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
        self.outcome = ""

    @property
    def label(self) -> str:
        """What the web UI calls this task: which worker it is, and after it ran what it sent."""
        worker = f"Worker {self.claimer['claimer'] + 1} of {self.claimer['of']}"
        return f"{worker}: {self.outcome}" if self.outcome else worker

    def execute(self, context: Context) -> dict[str, Any]:
        """Empty the queue; returns the counts."""
        from include.outbound.worker import drain
        from include.targets import load_target

        asked = read_params(context, OutboundParams)
        target = load_target(self.target)
        run = context["dag_run"]
        number, of = self.claimer["claimer"], self.claimer["of"]
        calls = target.concurrency // of + (number < target.concurrency % of)
        with database(self.conn_id) as connection, connector_for(target) as connector:
            connection.autocommit = True
            if asked.dry_run:
                return self._preview(connection, target, asked)
            report = drain(
                target,
                connection,
                connector=connector,
                calls_at_once=max(1, calls),
                limit=None if asked.limit is None else asked.limit // of + (number < asked.limit % of),
                anyway=asked.send_unchanged,
                run_id=f"{run.dag_id}/{run.run_id}",
            )
        self.outcome = _listed(report.counts()["orders"])
        log.info("%s", told(report.counts()))
        for line in _by_message(report.examples):
            log.warning("%s", line)
        return report.counts()

    def _preview(
        self, connection: psycopg.Connection[Any], target: type[OutboundSyncProvider], asked: OutboundParams
    ) -> dict[str, Any]:
        """Log what would be sent of the chosen orders, and which fields would change; send nothing."""
        from include.outbound.preview import preview

        counts: Counter[str] = Counter()
        for code, sent in preview(connection, target, asked.orders, asked.event):
            counts[sent.outcome] += 1
            position = f", position {sent.position_id}" if sent.position_id else ""
            with group("%s, mapping %s%s: %s", code, sent.mapping_id, position, _PREVIEWED[sent.outcome]):
                for name, value in sent.payload.items():
                    log.info("%s %s = %r", "*" if name in sent.changed else " ", name, value)
                for message in sent.error.messages if sent.error else ():
                    log.warning("%s", message)
        would = ", ".join(f"{counts[name]:,} {told}" for name, told in _PREVIEWED.items() if counts[name])
        log.info("Dry run, nothing was sent; a star marks what is new. Objects: %s", would or "none")
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
        from include.store import change_feed, incidents
        from include.store import outbound as store
        from include.targets import load_target

        asked = read_params(context, OutboundParams)
        target = load_target(self.target)
        run = context["dag_run"]
        with database(self.conn_id) as connection:
            connection.autocommit = True
            counts = store.run_counts(connection, f"{run.dag_id}/{run.run_id}")
            store.purge_log(connection, self.retention_days)
            change_feed.purge(connection)
            incident = incidents.find_incident(connection, run.dag_id)
        if failed := self._failed_before(context):
            raise EarlierTaskFailed(f"Not all was done: see the log of {', '.join(failed)}, then clear this and those")
        if asked.dry_run:
            return {"dry_run": True}
        log.info("%s", told(counts))
        if counts["parked"] or counts["orders"].get("retry"):
            log.warning("Which orders, and why: SELECT * FROM outbound_problems WHERE target = '%s'", target.identifier)
        if down := counts.get("down"):
            raise AirflowFailException(f"{target.name()} {TAKES_NOTHING}, the queue keeps what is to be sent: {down}")
        if incident and TAKES_NOTHING in incident.error and not counts["objects"].get("sent"):
            raise AirflowSkipException(
                "Nothing was sent, so whether it works again after the last failure is not known"
            )
        return counts

    def _failed_before(self, context: Context) -> list[str]:
        """The tasks before this one that failed: it runs also after those, and would make the run green."""
        run = context["dag_run"]
        before = [self.sent_by, *context["dag"].get_task(self.sent_by).upstream_task_ids]
        states = context["ti"].get_task_states(dag_id=run.dag_id, task_ids=before, run_ids=[run.run_id])
        failed = [name for name, state in states.get(run.run_id, {}).items() if state == "failed"]  # of mapped: send_0
        return [task for task in before if any(name == task or name.startswith(f"{task}_") for name in failed)]


def _fed(counts: FeedCounts) -> str:
    """What the change feed told, as one line."""
    if not counts.read:
        return "Nothing has changed since the last run"
    gone = f"; {counts.gone:,} exist no more" if counts.gone else ""
    return (
        f"Changed since the last run: {counts.queued:,} new in the queue, {counts.waiting:,} were in it already{gone}"
    )


_WORDS = {
    "sent": "sent",
    "nothing_to_do": "unchanged",
    "not_synced": "not to be sent",
    "failed": "failed",
    "retry": "to be tried again by itself",
    "parked": "waiting for a person",
    "gone": "no longer there",
}


_PREVIEWED = _WORDS | {"sent": "to be sent, unless the target leaves it out"}


def _by_message(examples: Sequence[str]) -> list[str]:
    """Lines `code: message`, those of the same message as one."""
    codes: dict[str, list[str]] = {}
    for example in examples:
        code, _, message = example.partition(": ")
        codes.setdefault(message, []).append(code)
    return [f"{', '.join(those)}: {message}" for message, those in codes.items()]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{counts[name]:,} {told}" for name, told in _WORDS.items() if counts.get(name)) or "none"


def told(counts: dict[str, Any]) -> str:
    """Counts as one line."""
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in counts.get("parked", {}).items() if number)
    orders = _listed(counts.get("orders", {})) + (f" ({reasons})" if reasons else "")
    return f"Orders: {orders}. Objects: {_listed(counts.get('objects', {}))}. {counts.get('seconds', 0):.1f} s"

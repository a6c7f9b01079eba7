"""Operators that fill and drain the queue of an outbound target."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.errors import EarlierTaskFailed
from include.operators.connections import SYNC_DB, connector_for, database
from include.operators.params import OutboundParams, read_params
from include.operators.runs import full_run_id, has_type
from include.operators.step_log import group

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Context

    from include.targets.base import OutboundSyncProvider

log = logging.getLogger(__name__)


class OpenOutboundOperator(BaseOperator):
    """Queue what changed, apply the run's parameters, and decide how many workers drain the queue.

    A backfill run queues the orders that were placed in its interval instead.

    :param target: dotted path of the target's class.
    :param max_workers: maximum number of mapped tasks that drain the queue concurrently.
    """

    ui_color = "#dbeafe"

    def __init__(self, *, target: str, max_workers: int = 4, conn_id: str = SYNC_DB, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target = target
        self.max_workers = max_workers
        self.conn_id = conn_id

    def execute(self, context: Context) -> list[dict[str, int]]:
        """Fill the queue; returns the arguments of each worker."""
        from include.outbound import actions
        from include.targets import load_target

        params = read_params(context, OutboundParams)
        target = load_target(self.target)
        run = context["dag_run"]
        if params.dry_run:
            log.info("Dry run: the queue is not changed")
            return [{"worker": 0, "of": 1}]
        with database(self.conn_id) as connection:
            connection.autocommit = True
            interval = (run.data_interval_start, run.data_interval_end) if has_type(run, "backfill") else None
            actions.fill_queue(connection, target, interval)
            actions.apply_run_params(connection, target, vars(params))
            actions.retry_after_outage(connection, target, run.dag_id)
            workers = actions.count_workers(connection, target, self.max_workers)
        return [{"worker": number, "of": workers} for number in range(workers)]


class OutboundSyncOperator(BaseOperator):
    """Send what is due in the queue of a target.

    The queue retries recoverable failures, not Airflow; a parked object does not fail the task. Whether the target
    rejected everything is for the CloseOutboundOperator to judge.

    :param target: dotted path of the target's class.
    :param worker: `{"worker": number, "of": count}`. The target's concurrent calls and the run's limit are divided
        among the workers.
    """

    template_fields: Sequence[str] = ("worker",)
    ui_color = "#fef9c3"

    def __init__(
        self, *, target: str, worker: dict[str, int] | None = None, conn_id: str = SYNC_DB, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.target = target
        self.worker = worker or {"worker": 0, "of": 1}
        self.conn_id = conn_id
        self.summary = ""

    @property
    def label(self) -> str:
        """The name of this task in the web UI: which worker it is, and after the run what it sent."""
        name = f"Worker {self.worker['worker'] + 1} of {self.worker['of']}"
        return f"{name}: {self.summary}" if self.summary else name

    def execute(self, context: Context) -> dict[str, Any]:
        """Drain the queue; returns the counts."""
        from include.outbound.worker import drain
        from include.targets import load_target

        params = read_params(context, OutboundParams)
        target = load_target(self.target)
        with database(self.conn_id) as connection, connector_for(target) as connector:
            connection.autocommit = True
            if params.dry_run:
                return _log_preview(connection, target, params)
            report = drain(
                target,
                connection,
                connector=connector,
                calls_at_once=max(1, self._share(target.concurrency)),
                limit=None if params.limit is None else self._share(params.limit),
                force=params.send_unchanged,
                run_id=full_run_id(context),
            )
        self.summary = _listed(report.orders)
        log.info("%s", summarize(report.counts()))
        for line in _by_message(report.examples):
            log.warning("%s", line)
        return report.counts()

    def _share(self, total: int) -> int:
        """Return this worker's share of a number."""
        number, of = self.worker["worker"], self.worker["of"]
        return total // of + (number < total % of)


class CloseOutboundOperator(BaseOperator):
    """Sum up the workers' counts and clean up; fails if the target rejected everything.

    :param target: dotted path of the target's class.
    :param sent_by: task id of the `OutboundSyncOperator`.
    :param retention_days: log entries are deleted after this many days.
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
        from include.outbound import actions
        from include.targets import load_target

        params = read_params(context, OutboundParams)
        target = load_target(self.target)
        with database(self.conn_id) as connection:
            connection.autocommit = True
            counts = actions.close_run(connection, target, full_run_id(context), self.retention_days)
            had_outage = actions.has_outage(connection, context["dag_run"].dag_id)
        if failed := self._failed_tasks(context):
            raise EarlierTaskFailed(
                f"Not everything was done: see the log of {', '.join(failed)}, then clear these tasks"
            )
        if params.dry_run:
            return {"dry_run": True}
        log.info("%s", summarize(counts))
        if counts["parked"] or counts["orders"].get("retry"):
            log.warning("Unsent orders: SELECT * FROM outbound_problems WHERE target = '%s'", target.identifier)
        if down := counts.get("down"):
            raise AirflowFailException(f"{target.name()} {actions.OUTAGE}; unsent orders stay queued: {down}")
        if had_outage and not counts["objects"].get("sent"):
            raise AirflowSkipException("Nothing was sent, so it is unknown whether the target works again")
        return counts

    def _failed_tasks(self, context: Context) -> list[str]:
        """Return the earlier tasks that failed. This task runs after them too, and must not make the run green."""
        run = context["dag_run"]
        before = [self.sent_by, *context["dag"].get_task(self.sent_by).upstream_task_ids]
        states = context["ti"].get_task_states(dag_id=run.dag_id, task_ids=before, run_ids=[run.run_id])
        # Mapped tasks are named with their index: send_0.
        failed = [name for name, state in states.get(run.run_id, {}).items() if state == "failed"]
        return [task for task in before if any(name == task or name.startswith(f"{task}_") for name in failed)]


# Logs

_OUTCOMES = {
    "sent": "sent",
    "nothing_to_do": "unchanged",
    "not_synced": "skipped",
    "failed": "failed",
    "retry": "to be retried",
    "parked": "parked",
    "gone": "deleted meanwhile",
}
_PREVIEWED = _OUTCOMES | {"sent": "would be sent, unless the target skips it"}


def _log_preview(
    connection: psycopg.Connection, target: type[OutboundSyncProvider], params: OutboundParams
) -> dict[str, Any]:
    """Log what would be sent, and which fields would change; returns the counts."""
    from include.outbound.preview import preview

    counts: Counter[str] = Counter()
    for code, sent in preview(connection, target, params.orders, params.event):
        counts[sent.outcome] += 1
        position = f", position {sent.position_id}" if sent.position_id else ""
        with group("%s, mapping %s%s: %s", code, sent.mapping_id, position, _PREVIEWED[sent.outcome]):
            for name, value in sent.payload.items():
                log.info("%s %s = %r", "*" if name in sent.changed else " ", name, value)
            for message in sent.error.messages if sent.error else ():
                log.warning("%s", message)
    log.info("Dry run, nothing was sent; * marks changed fields. Objects: %s", _listed(counts, _PREVIEWED))
    return {"dry_run": True, "objects": dict(counts)}


def summarize(counts: Mapping[str, Any]) -> str:
    """Return the counts of a worker or run as one line."""
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in counts.get("parked", {}).items() if number)
    orders = _listed(counts.get("orders", {})) + (f" ({reasons})" if reasons else "")
    return f"Orders: {orders}. Objects: {_listed(counts.get('objects', {}))}. {counts.get('seconds', 0):.1f} s"


def _listed(counts: Mapping[str, int], words: Mapping[str, str] = _OUTCOMES) -> str:
    return ", ".join(f"{counts[name]:,} {word}" for name, word in words.items() if counts.get(name)) or "none"


def _by_message(examples: Iterable[str]) -> list[str]:
    """Merge lines `code: message` that have the same message."""
    codes: dict[str, list[str]] = {}
    for example in examples:
        code, _, message = example.partition(": ")
        codes.setdefault(message, []).append(code)
    return [f"{', '.join(those)}: {message}" for message, those in codes.items()]

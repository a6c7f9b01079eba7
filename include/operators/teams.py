"""Tell a Teams channel. What cannot be delivered is logged, and never fails the work it is about."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, BaseNotifier
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError

from include.errors import ProviderSyncError
from include.operators.connections import SYNC_DB, database

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.store.episodes import Episode

log = logging.getLogger(__name__)

TEAMS = "teams"
LONGEST_ERROR = 1500


def send_card(make: Callable[[], Any], conn_id: str = TEAMS) -> bool:
    """Post a card to the channel of an Airflow connection; False, with a line in the log, when it did not arrive.

    The connection has the URL of a workflow as password; `channelId` and `apiKey` in its extra go along for flows that
    ask for them.
    """
    from include.connectors.redaction import redact
    from include.connectors.teams import post_card

    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        log.info("There is no Airflow connection %r: nobody is told in Teams", conn_id)
        return False
    url = connection.password or connection.host
    if not url:
        log.warning("The Airflow connection %r has no URL of a workflow as password: nobody is told in Teams", conn_id)
        return False
    extras = {name: str(value) for name, value in connection.extra_dejson.items() if name in ("channelId", "apiKey")}
    try:
        post_card(url, make(), extras, conn_id=conn_id)
    except ProviderSyncError as error:
        log.warning("The message to Teams could not be delivered: %s", error)
        return False
    except Exception as error:  # whatever a card stumbles over, the work it tells of is done
        log.warning("The message to Teams could not be made: %s: %s", type(error).__name__, redact(error))
        return False
    log.info("Told the Teams channel of connection %r", conn_id)
    return True


class _EpisodeNotifier(BaseNotifier):
    """Tells a Teams channel once of an episode of failure, which lasts until the DAG works again.

    :param teams_conn_id: the connection with the URL of the workflow.
    :param conn_id: the database that keeps the episodes.
    """

    def __init__(self, *, teams_conn_id: str = TEAMS, conn_id: str = SYNC_DB) -> None:
        super().__init__()
        self.teams_conn_id = teams_conn_id
        self.conn_id = conn_id

    def _send(self, make: Callable[[], Any]) -> bool:
        return send_card(make, self.teams_conn_id)


class FailureNotifier(_EpisodeNotifier):
    """Tells a Teams channel when a DAG begins to fail, not with every run: for `on_failure_callback`.

    A message that did not arrive is tried again with the next failure. While the database cannot be reached, the run
    before tells whether this failure is the first. Belongs together with `RecoveryNotifier`.
    """

    def notify(self, context: Context) -> None:
        """Tell of the failure if nobody knows yet."""
        from include.store import episodes

        subject = context["ti"].dag_id
        try:
            with database(self.conn_id) as connection:
                connection.autocommit = True
                episode = episodes.note_failure(connection, subject, _error(context))
                if episode.notified_at is None and self._send(_failing(subject, context, episode.failures)):
                    episodes.note_told(connection, subject)
        except ProviderSyncError as problem:
            log.warning("Episodes of failure are not kept: %s", problem)
            if not _failed_before(context):
                self._send(_failing(subject, context, 1))


class RecoveryNotifier(_EpisodeNotifier):
    """Tells a Teams channel that a DAG works again: for `on_success_callback`, beside a `FailureNotifier`."""

    def notify(self, context: Context) -> None:
        """Tell of the recovery, if there was an episode of failure."""
        from include.store import episodes

        subject = context["ti"].dag_id
        try:
            with database(self.conn_id) as connection:
                connection.autocommit = True
                episode = episodes.find_episode(connection, subject)
                if episode is None:
                    return
                if self._send(_recovered(subject, episode)) or episode.notified_at is None:
                    episodes.end_episode(connection, subject)  # else somebody still waits to hear of it
        except ProviderSyncError as problem:
            log.warning("Whether there was an episode of failure is not known: %s", problem)


def _failing(subject: str, context: Context, failures: int) -> Callable[[], Any]:
    def card() -> Any:
        from include.connectors.teams import adaptive_card

        text = "The next good run catches up by itself. One more message comes when it works again."
        facts: dict[str, object] = {"Error": _error(context), "Failed runs": failures}
        if url := getattr(context["ti"], "log_url", None):
            facts["Log"] = f"[open]({url})"
        return adaptive_card(f"{subject}: failing", text=text, facts=facts, tone="bad")

    return card


def _recovered(subject: str, episode: Episode) -> Callable[[], Any]:
    def card() -> Any:
        from include.connectors.teams import adaptive_card

        facts = {
            "Failing since": f"{episode.began_at:%Y-%m-%d %H:%M:%S %Z}",
            "Failed runs": episode.failures,
            "Last error": episode.error,
        }
        return adaptive_card(f"{subject}: works again", facts=facts, tone="good")

    return card


def _error(context: Context) -> str:
    from include.connectors.redaction import redact

    error = context.get("exception")
    if error is None:  # the scheduler noticed it, not the task
        return "the task was ended from outside: its worker stopped, or it was killed"
    told = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
    return redact(told[: 2 * LONGEST_ERROR])[:LONGEST_ERROR]  # to look through a long text takes very long


def _failed_before(context: Context) -> bool:
    """Whether the same task failed in the run before."""
    try:
        previous = context["ti"].get_previous_ti()
    except AirflowRuntimeError:
        return False
    return previous is not None and str(previous.state) == "failed"

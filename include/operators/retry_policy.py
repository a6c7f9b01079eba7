"""Retries according to the error tree: only errors that a retry can fix, after the wait that the service requests."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import RetryAction, RetryDecision, RetryPolicy

from include.errors import FatalError, LinksFailed, RetryableError

if TYPE_CHECKING:
    from airflow.sdk import Context


class ErrorTreePolicy(RetryPolicy):
    """Retry a `RetryableError` (no sooner than its `retry_after`), fail at once on a `FatalError`.

    For any other exception, the task's `retries` and `retry_delay` apply.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide by the class of the exception; see `include.errors`."""
        if isinstance(exception, LinksFailed) and not exception.is_retryable:
            return RetryDecision(RetryAction.FAIL, None, "a retry cannot fix the venue links that failed")
        if isinstance(exception, (RetryableError, LinksFailed)):
            wait = timedelta(seconds=exception.retry_after) if exception.retry_after else None
            delay = wait or (context["task"].retry_delay if context else None)
            when = f" {_in(delay)}" if delay else ""
            return RetryDecision(RetryAction.RETRY, wait, f"{type(exception).__name__}: retried{when}")
        if isinstance(exception, FatalError):
            return RetryDecision(RetryAction.FAIL, None, f"{type(exception).__name__}: a person must fix the cause")
        return RetryDecision(RetryAction.DEFAULT)


def _in(wait: timedelta) -> str:
    """Return a wait in words."""
    seconds = wait.total_seconds()
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"in {seconds / size:.2g} {unit}"
    return f"in {seconds:.0f} s"

"""Retries by the error tree: what a retry can help is tried again, after the wait that the service asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import RetryAction, RetryDecision, RetryPolicy

from include.errors import FatalError, LinksFailed, RetryableError

if TYPE_CHECKING:
    from airflow.sdk import Context


class ErrorTreePolicy(RetryPolicy):
    """Retry a `RetryableError` (no sooner than its `retry_after`), fail at once on a `FatalError`.

    Anything else takes Airflow's own course: the task's `retries` and `retry_delay`.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide by the place of the exception in the tree of `include.errors`."""
        if isinstance(exception, LinksFailed) and not exception.is_retryable:
            return RetryDecision(RetryAction.FAIL, None, "no retry can help the venue links that failed")
        if isinstance(exception, (RetryableError, LinksFailed)):
            wait = timedelta(seconds=exception.retry_after) if exception.retry_after else None
            known = wait or (context["task"].retry_delay if context else None)
            when = f" {_in(known)}" if known else ""
            return RetryDecision(RetryAction.RETRY, wait, f"{type(exception).__name__}: tried again{when}")
        if isinstance(exception, FatalError):
            return RetryDecision(RetryAction.FAIL, None, f"{type(exception).__name__}: a person has to look at it")
        return RetryDecision(RetryAction.DEFAULT)


def _in(wait: timedelta) -> str:
    """When that is, in words."""
    seconds = wait.total_seconds()
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"in {seconds / size:.2g} {unit}"
    return f"in {seconds:.0f} s"

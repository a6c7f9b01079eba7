"""All errors of the project, as one tree. Each class says who can fix it and how.

::

    ProviderSyncError
    ├── RetryableError             a later retry may succeed; nothing needs fixing
    │   ├── ServiceUnavailable     5xx, a dropped connection or a timeout, after the connector's retries
    │   ├── RateLimited            429 with a wait that is too long to block a worker slot
    │   ├── UndecodableBody        a body that is not the expected JSON, after retries
    │   ├── LinkBusy               another run has locked this provider and venue link
    │   ├── IndexBusy              another run is patching this search index
    │   └── DatabaseUnavailable    PostgreSQL refused or dropped the connection
    ├── FatalError                 a retry fails again until someone changes something
    │   ├── ConfigurationError     a connection, parameter, provider or venue link is missing or wrong
    │   │   ├── BodyTooLarge       a response larger than the limit
    │   │   └── Unreachable        an unknown host, or a certificate that cannot be verified
    │   ├── UntrustedUrl           a URL from a third party that must not be followed
    │   ├── AccessRefused          401 or 403: check the credentials
    │   ├── RequestRefused         any other 4xx: check the address and the ids
    │   │   └── RedirectsElsewhere a redirect to another service
    │   ├── PaginationError        a listing that repeats itself, never ends or ends early
    │   ├── ListingShrank          a complete listing lacks too many stored rows to be accepted
    │   ├── ErrorBudgetExceeded    too many rejected records: the source or the parser has changed
    │   └── EarlierTaskFailed      a closing task fails because an earlier task failed
    ├── RecordError                affects one record; the run continues
    │   ├── RejectRecord           store the record in rejected_record, with the reason
    │   ├── SkipObject             skip this object: it does not concern us
    │   └── BadImage               skip this image; its object is still synced
    ├── LinksFailed                some venue links of a batch failed; the message lists them
    └── BaseSyncError              one object could not be sent to an outbound target
        ├── RecoverableSyncError   retried automatically, up to the target's max_attempts
        └── UnrecoverableSyncError parked until someone retries it
            └── SyncConfigError    a mapping, connection or setting is wrong

Every error records where it happened (provider, venue link, page, record) and never contains a secret: connectors
redact URLs and headers before they raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

NOT_FOUND = 404
MAX_NAMED = 50
"""Maximum number of venue links listed in the message of LinksFailed."""


class ProviderSyncError(Exception):
    """Root of the tree. `where` (provider, venue link, page and so on) is shown after the message."""

    def __init__(self, message: str, **where: Any) -> None:
        super().__init__(message)
        self.message = message
        self.where: dict[str, Any] = {key: value for key, value in where.items() if value is not None}

    def at(self, **where: Any) -> ProviderSyncError:
        """Add details about where the error happened; details added by a deeper layer win."""
        for key, value in where.items():
            if value is not None:
                self.where.setdefault(key, value)
        return self

    def __str__(self) -> str:
        if not self.where:
            return self.message
        return f"{self.message} [{', '.join(f'{key} {value}' for key, value in self.where.items())}]"


class RetryableError(ProviderSyncError):
    """A later retry may succeed. `retry_after` is the minimum wait in seconds, if the service gave one."""

    def __init__(self, message: str, *, retry_after: float | None = None, **where: Any) -> None:
        super().__init__(message, **where)
        self.retry_after = retry_after


class ServiceUnavailable(RetryableError):
    """The service returned 5xx, dropped the connection or timed out, after the connector's retries."""


class RateLimited(RetryableError):
    """The service asked for a wait that is too long to block a worker slot; see `retry_after`."""


class UndecodableBody(RetryableError):
    """The body is not the expected JSON, after retries."""


class LinkBusy(RetryableError):
    """Another run of the same provider and venue link is in progress."""


class IndexBusy(RetryableError):
    """Another run is patching the same search index."""


class DatabaseUnavailable(RetryableError):
    """PostgreSQL refused or dropped the connection."""


class FatalError(ProviderSyncError):
    """A retry fails again until someone changes something."""


class ConfigurationError(FatalError):
    """A connection, parameter, provider or venue link is missing or wrong."""


class BodyTooLarge(ConfigurationError):
    """The response is larger than the limit."""


class Unreachable(ConfigurationError):
    """The host does not exist, its certificate cannot be verified, or it does not speak TLS: check the address."""


class UntrustedUrl(FatalError):
    """A URL from a third party points into a private network or to another service, so it is not followed."""


class AccessRefused(FatalError):
    """The service returned 401 or 403: check the credentials of the connection."""


class RequestRefused(FatalError):
    """The service returned another 4xx status: check the address and the venue's id."""

    def __init__(self, message: str, *, status: int, **where: Any) -> None:
        super().__init__(message, **where)
        self.status = status


class RedirectsElsewhere(RequestRefused):
    """The service redirects to another service, which must not receive the credentials.

    `target` is a function that returns the unredacted URL, so that code that prints attributes never prints a secret.
    """

    def __init__(self, message: str, *, status: int, target: str, **where: Any) -> None:
        super().__init__(message, status=status, **where)
        self.target: Callable[[], str] = lambda: target


class PaginationError(FatalError):
    """The pages of a listing repeat themselves, never end or end before the announced total."""


class ListingShrank(FatalError):
    """A complete listing lacks too many stored rows to be accepted: no row was marked as removed."""


class ErrorBudgetExceeded(FatalError):
    """More records were rejected than the operation's error budget allows."""


class EarlierTaskFailed(FatalError):
    """A closing task fails because an earlier task failed; alerts show that task's error as the cause."""


class RecordError(ProviderSyncError):
    """Affects one record or object; the run continues."""


class RejectRecord(RecordError):
    """The record is unusable. The engine stores it in `rejected_record` with this message as the reason.

    `payload` is the record as received (raw bytes or a decoded value); None means the current record. `reference` is
    the prefix of the keys of its objects, if it could be read: a complete listing then keeps only these rows.
    """

    def __init__(self, message: str, *, payload: Any = None, reference: str | None = None, **where: Any) -> None:
        super().__init__(message, **where)
        self.payload = payload
        self.reference = reference


class SkipObject(RecordError):
    """The object does not concern us (not eligible, nothing available); it counts as skipped."""


class BadImage(RecordError):
    """An image is missing or unusable. The message is the general reason, `where` identifies the image."""


class LinksFailed(ProviderSyncError):
    """Some venue links failed, after all links of the batch were attempted.

    `failures` maps the label of a venue link to its error. The batch is retryable if one of the failures is.
    """

    def __init__(self, failures: Mapping[str, ProviderSyncError], *, attempted: int) -> None:
        lines = [f"  - {label}: {error}" for label, error in failures.items()]
        more = [f"  - and {len(lines) - MAX_NAMED} more"] if len(lines) > MAX_NAMED else []
        listed = "\n".join(lines[:MAX_NAMED] + more)
        others = ", the others finished" if attempted > len(failures) else ""
        unknown = [isinstance(error, RequestRefused) and error.status == NOT_FOUND for error in failures.values()]
        if not others and len(unknown) > 1 and all(unknown):
            others = ", each with a 404: the address of the Airflow connection is probably wrong"
        super().__init__(f"{len(failures)} of {attempted} venue links failed{others}:\n{listed}")
        self.failures = dict(failures)

    @property
    def is_retryable(self) -> bool:
        """True when a retry may help at least one of the failed links."""
        return any(isinstance(error, RetryableError) for error in self.failures.values())

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before the next attempt: the longest wait that any service asked for."""
        waits = [e.retry_after for e in self.failures.values() if isinstance(e, RetryableError) and e.retry_after]
        return max(waits, default=None)


class BaseSyncError(ProviderSyncError):
    """An object could not be sent. `messages` are for people; `full_message` may add technical details."""

    def __init__(self, messages: Sequence[str] | str, full_message: str | None = None) -> None:
        self.messages = [messages] if isinstance(messages, str) else [str(message) for message in messages]
        self.full_message = full_message
        super().__init__("; ".join(self.messages))


class RecoverableSyncError(BaseSyncError):
    """A later retry may succeed. `retry_after` is the minimum wait in seconds, if the target gave one."""

    def __init__(
        self, messages: Sequence[str] | str, full_message: str | None = None, *, retry_after: float | None = None
    ) -> None:
        super().__init__(messages, full_message)
        self.retry_after = retry_after


class UnrecoverableSyncError(BaseSyncError):
    """The target refused the object permanently: someone has to look at it."""

    failure_mode = "permanent"


class SyncConfigError(UnrecoverableSyncError):
    """A mapping, connection or setting is wrong: nothing can be sent until it is corrected."""

    failure_mode = "config"

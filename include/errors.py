"""The one tree of errors. Each class says what is to be done about it.

::

    ProviderSyncError
    ├── RetryableError             try again later, nothing is wrong with the set-up
    │   ├── ServiceUnavailable     5xx, cut connection, time-out: after the connector's own retries
    │   ├── RateLimited            429 with a wait too long to sleep through in a worker slot
    │   ├── UndecodableBody        a body that is not the JSON it should be, several times over
    │   ├── LinkBusy               another run holds the lock of this provider and venue link
    │   ├── IndexBusy              another run is at work on this search index
    │   └── DatabaseUnavailable    PostgreSQL went away or refused the connection
    ├── FatalError                 a person has to change something before a retry can help
    │   ├── ConfigurationError     a connection, parameter, provider or venue link that is not right
    │   │   ├── BodyTooLarge       a response with more bytes than are read
    │   │   └── Unreachable        a host that does not exist, or whose certificate cannot be verified
    │   ├── UntrustedUrl           a URL that a third party supplied and that may not be followed
    │   ├── AccessRefused          401 or 403: the credentials
    │   ├── RequestRefused         any other 4xx: the address, or an id the service does not know
    │   │   └── RedirectsElsewhere a redirect to another service
    │   ├── PaginationError        a listing that would not end, or ended too early
    │   ├── ListingShrank          a complete listing lacks so much of what we hold that it is not believed
    │   ├── ErrorBudgetExceeded    too many rejected records: the source or the parser changed
    │   └── EarlierTaskFailed      a closing task: the cause is the failure of a task before it
    ├── RecordError                concerns one record; the run goes on
    │   ├── RejectRecord           keep the record aside in rejected_record, with the reason
    │   ├── SkipObject             leave this object out, it is not for us
    │   └── BadImage             leave this picture out, its object is kept
    ├── LinksFailed                some venue links of a batch failed, named in the message
    └── BaseSyncError              one object could not be sent to an outbound target; the queue keeps why
        ├── RecoverableSyncError   try again by itself, up to the target's max_attempts
        └── UnrecoverableSyncError park it until a person retries
            └── SyncConfigError    because of a mapping, a connection or a setting

An error carries where it happened (provider, venue link, page, record) and never a secret: connectors
redact addresses and headers before they raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

NOT_FOUND = 404
MAX_NAMED = 50
"""Venue links named in the message of LinksFailed."""


class ProviderSyncError(Exception):
    """Root of the tree. `where` holds provider, venue link, page and so on, shown after the message."""

    def __init__(self, message: str, **where: Any) -> None:
        super().__init__(message)
        self.message = message
        self.where: dict[str, Any] = {key: value for key, value in where.items() if value is not None}

    def at(self, **where: Any) -> ProviderSyncError:
        """Add where it happened; what a deeper layer already said is kept."""
        for key, value in where.items():
            if value is not None:
                self.where.setdefault(key, value)
        return self

    def __str__(self) -> str:
        if not self.where:
            return self.message
        return f"{self.message} [{', '.join(f'{key} {value}' for key, value in self.where.items())}]"


class RetryableError(ProviderSyncError):
    """Trying again later may help. `retry_after` is the number of seconds to wait at least, if known."""

    def __init__(self, message: str, *, retry_after: float | None = None, **where: Any) -> None:
        super().__init__(message, **where)
        self.retry_after = retry_after


class ServiceUnavailable(RetryableError):
    """The service responded with 5xx, cut the connection or timed out, after the connector's own retries."""


class RateLimited(RetryableError):
    """The service asked for a wait that is too long to sleep through; `retry_after` has it."""


class UndecodableBody(RetryableError):
    """The body is not JSON of the expected shape, also after asking again."""


class LinkBusy(RetryableError):
    """Another run of the same provider and venue link is going on."""


class IndexBusy(RetryableError):
    """Another run is at work on the same search index."""


class DatabaseUnavailable(RetryableError):
    """The connection to PostgreSQL was lost or refused."""


class FatalError(ProviderSyncError):
    """A retry cannot help before a person changes something."""


class ConfigurationError(FatalError):
    """A connection, parameter, provider or venue link is missing or wrong."""


class BodyTooLarge(ConfigurationError):
    """The service responded with more bytes than are read."""


class Unreachable(ConfigurationError):
    """The host does not exist, its certificate cannot be verified, or it does not speak TLS: check the address."""


class UntrustedUrl(FatalError):
    """A URL that a third party supplied leads into a private network, or to another service: it is not followed."""


class AccessRefused(FatalError):
    """The service responded with 401 or 403: check the credentials of the connection."""


class RequestRefused(FatalError):
    """The service responded with another 4xx status: check the address and the venue's id."""

    def __init__(self, message: str, *, status: int, **where: Any) -> None:
        super().__init__(message, **where)
        self.status = status


class RedirectsElsewhere(RequestRefused):
    """The service redirects to another one, which must not get its credentials.

    `target` gives the address as it is; it is a function so that nothing that shows errors shows a secret in it.
    """

    def __init__(self, message: str, *, status: int, target: str, **where: Any) -> None:
        super().__init__(message, status=status, **where)
        self.target: Callable[[], str] = lambda: target


class PaginationError(FatalError):
    """The pages of a listing repeat themselves, never end, or end before the announced total."""


class ListingShrank(FatalError):
    """A complete listing lacks more of what we hold than is believable: nothing was marked as gone."""


class ErrorBudgetExceeded(FatalError):
    """More records were rejected than the operation's error budget allows."""


class EarlierTaskFailed(FatalError):
    """A closing task fails because a task before it did; alerts give that task's error as the cause."""


class RecordError(ProviderSyncError):
    """Concerns one record or object; the run goes on."""


class RejectRecord(RecordError):
    """The record cannot be used. It is kept in `rejected_record` with this message as the reason.

    `payload` is the record as received (raw bytes or a decoded value); None means the current one. `reference` is what
    the keys of its objects begin with, if that could be read: a complete listing then leaves just those alone.
    """

    def __init__(self, message: str, *, payload: Any = None, reference: str | None = None, **where: Any) -> None:
        super().__init__(message, **where)
        self.payload = payload
        self.reference = reference


class SkipObject(RecordError):
    """The object is not for us (not eligible, nothing available): it is counted as skipped."""


class BadImage(RecordError):
    """A picture is not there or cannot be used; the message says why in general, `where` which one."""


class LinksFailed(ProviderSyncError):
    """Some venue links failed; the others were finished first.

    `failures` maps a venue link's label to its error. The batch can be tried again when one of them can be,
    after the longest of their waits.
    """

    def __init__(self, failures: Mapping[str, ProviderSyncError], *, attempted: int) -> None:
        told = [f"  - {label}: {error}" for label, error in failures.items()]
        more = [f"  - and {len(told) - MAX_NAMED} more"] if len(told) > MAX_NAMED else []
        named = "\n".join(told[:MAX_NAMED] + more)
        others = ", the others were finished" if attempted > len(failures) else ""
        unknown = [isinstance(error, RequestRefused) and error.status == NOT_FOUND for error in failures.values()]
        if not others and len(unknown) > 1 and all(unknown):
            others = ", each with a 404: the address of the Airflow connection is probably wrong"
        super().__init__(f"{len(failures)} of {attempted} venue links failed{others}:\n{named}")
        self.failures = dict(failures)

    @property
    def is_retryable(self) -> bool:
        """True when a retry may help at least one of the failed links."""
        return any(isinstance(error, RetryableError) for error in self.failures.values())

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before the next try: the longest wait that any service asked for."""
        waits = [e.retry_after for e in self.failures.values() if isinstance(e, RetryableError) and e.retry_after]
        return max(waits, default=None)


class BaseSyncError(ProviderSyncError):
    """An object could not be sent. `messages` are for people, `full_message` may hold the technical reason."""

    def __init__(self, messages: Sequence[str] | str, full_message: str | None = None) -> None:
        self.messages = [messages] if isinstance(messages, str) else [str(message) for message in messages]
        self.full_message = full_message
        super().__init__("; ".join(self.messages))


class RecoverableSyncError(BaseSyncError):
    """Trying again later may help. `retry_after`: not sooner than in so many seconds, if the target said so."""

    def __init__(
        self, messages: Sequence[str] | str, full_message: str | None = None, *, retry_after: float | None = None
    ) -> None:
        super().__init__(messages, full_message)
        self.retry_after = retry_after


class UnrecoverableSyncError(BaseSyncError):
    """The target says no for good: a person has to look at it."""

    failure_mode = "permanent"


class SyncConfigError(UnrecoverableSyncError):
    """A mapping, connection or setting is wrong: nothing can be sent before it is corrected."""

    failure_mode = "config"

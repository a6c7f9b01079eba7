"""One Algolia index, through the official client (https://www.algolia.com/doc/rest-api/search/).

The client builds the requests, our HTTP connector sends them. That avoids defects of the client's own transport:
connection errors are raised without trying the next host, a 503 marks the only host as down for five minutes, a
`Retry-After` of any length is slept through, helpers recurse once per page or poll, and one log entry without a field
makes the whole page unusable.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import msgspec
from algoliasearch.http.api_response import ApiResponse
from algoliasearch.http.request_options import RequestOptions
from algoliasearch.http.transporter_sync import TransporterSync
from algoliasearch.http.verb import Verb
from algoliasearch.search.client import SearchClientSync
from algoliasearch.search.config import SearchConfig

from include.connectors import cancellation
from include.connectors.http import HttpConnector, Stats
from include.connectors.refusals import named_connection
from include.errors import AccessRefused, ConfigurationError, RequestRefused, ServiceUnavailable, UndecodableBody

MAX_LOG_ENTRIES = 1000
"""Entries per log request (https://www.algolia.com/doc/rest-api/search/get-logs)."""
MAX_RECORDS = 1000
"""Records per browsed page (https://www.algolia.com/doc/rest-api/search/browse)."""
FIRST_POLL, MAX_POLL = 0.05, 2.0
"""Seconds between two polls of a task."""

T = TypeVar("T")


class Browsed(NamedTuple):
    """A page of records; `cursor` is None on the last page, `total` is the number of records that the index reports."""

    records: list[dict[str, Any]]
    cursor: str | None
    total: int | None


class AlgoliaIndex:
    """One index of one application. Safe to share between threads.

    `hosts` are base URLs of a server other than Algolia's own; `options` are those of `HttpConnector`.

    Its methods raise AccessRefused, which names the right (ACL) that the key lacks, ConfigurationError for a missing
    index, RequestRefused for a request that Algolia rejects, and the retryable errors after the connector's
    own retries.
    """

    def __init__(
        self, application_id: str, api_key: str, name: str, *, hosts: Sequence[str] = (), **options: Any
    ) -> None:
        self._place = named_connection(options.get("conn_id", ""))
        if not re.fullmatch(r"[A-Za-z0-9_-]+", application_id):
            raise ConfigurationError(
                f"{application_id!r} is not an application id of Algolia: check the login of {self._place}"
            )
        self.application_id = application_id
        self.name = name
        options["secrets"] = (*options.get("secrets", ()), api_key)
        reading, writing = _hosts(application_id, hosts)
        self._connectors = tuple(HttpConnector(base, mirrors=rest, **options) for base, *rest in (reading, writing))
        config = SearchConfig(application_id, api_key)
        self._transporter = _Transporter(config, *self._connectors)
        self._client = SearchClientSync.create_with_config(config, self._transporter)
        self._options = RequestOptions(config)

    @property
    def stats(self) -> Stats:
        """What the connectors have done so far, for reads and writes together."""
        reads, writes = (connector.stats for connector in self._connectors)
        return Stats(*(getattr(reads, each) + getattr(writes, each) for each in Stats.__slots__))

    def logs(self, offset: int, length: int) -> list[Any]:
        """Return entries of the application's log of writes, newest first, from `offset` (0: the newest)."""
        response = self._call(
            "logs", lambda: self._client.get_logs_with_http_info(offset=offset, length=length, type="build")
        )
        return _field(response, "logs", list)

    def browse(self, attributes: Sequence[str], cursor: str | None = None) -> Browsed:
        """Return a page of up to 1000 records with these attributes and their `objectID`."""
        params: dict[str, Any] = {"cursor": cursor} if cursor else {}
        params |= {"attributesToRetrieve": list(attributes), "hitsPerPage": MAX_RECORDS}
        response = self._call("browse", lambda: self._client.browse_with_http_info(self.name, params))
        cursor, total = response.get("cursor"), response.get("nbHits")
        return Browsed(_field(response, "hits", list), cursor or None, total if isinstance(total, int) else None)

    def patch(self, records: Sequence[Mapping[str, Any]]) -> int:
        """Set attributes of existing records (each with its `objectID`), create none; return the task's id."""
        batch = {"requests": [{"action": "partialUpdateObjectNoCreate", "body": record} for record in records]}
        # The client copies a batch before it encodes it with `json`: a third of the CPU of a pass that changes all.
        options = self._options.merge(data=msgspec.json.encode(batch).decode())
        path = f"/1/indexes/{quote(self.name, safe='')}/batch"
        response = self._call("addObject", lambda: self._transporter.request(Verb.POST, path, options, False))
        return int(_field(response, "taskID", int))

    def is_published(self, task_id: int, *, index: str | None = None) -> bool:
        """Whether the result of a task of this index, or of another one, can be read."""
        response = self._call("addObject", lambda: self._client.get_task_with_http_info(index or self.name, task_id))
        return bool(response.get("status") == "published")

    def wait_until_published(self, task_id: int, *, index: str | None = None, longest: float = 600.0) -> None:
        """Wait until the result of a task can be read.

        Raises:
            ServiceUnavailable: it is not published after `longest` seconds; it may be published later.
        """
        deadline = time.monotonic() + longest
        pause = FIRST_POLL
        while not self.is_published(task_id, index=index):
            if time.monotonic() >= deadline:
                raise ServiceUnavailable(
                    f"Algolia has not published task {task_id} of index {index or self.name} after {longest:.0f} s"
                )
            cancellation.sleep(pause)
            pause = min(MAX_POLL, pause * 1.5)

    def close(self) -> None:
        """Close the connections."""
        for connector in self._connectors:
            connector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _call(self, right: str, call: Callable[[], ApiResponse[Any]]) -> dict[str, Any]:
        try:
            response = call().raw_data
        except AccessRefused as error:
            if "Invalid Application-ID" in error.message:
                raise AccessRefused(
                    f"Algolia does not know this API key for the application {self.application_id}: check login "
                    f"(application id) and password (API key) of {self._place}"
                ) from None
            raise AccessRefused(
                f"The API key of application {self.application_id} lacks the right (ACL) {right!r} on index "
                f"{self.name}: give it that right, or set another key as password of {self._place}. {error.message}"
            ) from None
        except RequestRefused as error:
            if error.status == 404:
                raise ConfigurationError(
                    f"Algolia has no index {self.name!r} in application {self.application_id} (404): correct "
                    f"`index` in the extra of {self._place}, or let the indexer build it first"
                ) from error
            raise
        if not isinstance(response, dict):
            raise UndecodableBody(f"Algolia's response to {right} of index {self.name} is not a JSON object")
        return response


class _Transporter(TransporterSync):
    """Sends the client's requests with our connectors, and decodes each response once."""

    def __init__(self, config: SearchConfig, reading: HttpConnector, writing: HttpConnector) -> None:
        super().__init__(config)
        self._reading = reading
        self._writing = writing

    def request(
        self, verb: Verb, path: str, request_options: RequestOptions, use_read_transporter: bool
    ) -> ApiResponse[Any]:
        """Send one request; the errors are those of the connector."""
        is_read = verb == Verb.GET or use_read_transporter
        if query := self.prepare(request_options, is_read):
            path += "?" + "&".join(f"{name}={value}" for name, value in query.items())
        data = request_options.data
        connector = self._reading if is_read else self._writing
        response = connector.request(
            verb.value,
            path,
            body=data.encode() if isinstance(data, str) else None,
            headers=request_options.headers,
            decode=_decode,
        )
        return ApiResponse(verb=verb, path=path, status_code=response.status, raw_data=response.value)


def _decode(body: bytes) -> Any:
    """Decode JSON; Algolia cuts long bodies in its log, possibly in the middle of a character."""
    try:
        return msgspec.json.decode(body)
    except UnicodeDecodeError:
        return msgspec.json.decode(body.decode(errors="replace"))


def _hosts(application_id: str, hosts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the base URLs to read from and to write to, in the order to try them."""
    if hosts:
        return hosts, hosts
    others = [f"https://{application_id}-{number}.algolianet.com" for number in (1, 2, 3)]
    random.shuffle(others)
    own = f"https://{application_id}"
    return [f"{own}-dsn.algolia.net", *others], [f"{own}.algolia.net", *others]


def _field(response: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = response.get(name)
    if not isinstance(value, kind):
        raise UndecodableBody(f"Algolia's response has no {name!r} of type {kind.__name__}")
    return value

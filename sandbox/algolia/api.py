"""The endpoints of the Algolia stand-in, its API keys and its log.

The stand-in is served at the root, since the official clients cannot put a prefix before `/1`. It refuses parameters
that it does not implement, rather than ignore them.
"""

from __future__ import annotations

import gzip
import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlencode

import msgspec
from fastapi import APIRouter, Request, Response

from sandbox.algolia import reads, writes
from sandbox.algolia.logs import Logs
from sandbox.algolia.request import ApiError, ApiRequest
from sandbox.algolia.store import Index, Store
from sandbox.faults import ANY_SERVICE, Faults, Rule, Service
from sandbox.offers import INDEX, offers
from sandbox.responses import PlannedResponse, error_response, send
from sandbox.world import World

SERVICE = "algolia"


@dataclass(frozen=True)
class Call:
    """An endpoint: its name in fault rules, its method and path, the right that it requires, and its function.

    `kind` is its type in the log; a call without a kind is not logged.
    """

    name: str
    method: str
    path: re.Pattern[str]
    right: str
    respond: Callable[[ApiRequest], object]
    kind: str | None


def _call(
    name: str, endpoint: str, right: str, respond: Callable[[ApiRequest], object], kind: str | None = "query"
) -> Call:
    method, path = endpoint.split()
    pattern = path.replace("<", "(?P<").replace(">", ">[^/]+)")
    return Call(name, method, re.compile(pattern), right, respond, kind)


# The first match counts.
CALLS = (
    _call("logs", "GET /1/logs", "logs", reads.get_logs, None),
    _call("list", "GET /1/indexes", "listIndexes", reads.list_indices),
    _call("browse", "POST /1/indexes/<index>/browse", "browse", reads.browse),
    _call("batch", "POST /1/indexes/<index>/batch", "addObject", writes.batch, "build"),
    _call("operation", "POST /1/indexes/<index>/operation", "addObject", writes.operate, "build"),
    _call("task", "GET /1/indexes/<index>/task/<task>", "addObject", reads.get_task),
    _call("settings", "GET /1/indexes/<index>/settings", "settings", reads.get_settings),
    _call("settings", "PUT /1/indexes/<index>/settings", "editSettings", writes.set_settings, "build"),
    _call("clear", "POST /1/indexes/<index>/clear", "deleteIndex", writes.clear, "build"),
    _call("delete", "DELETE /1/indexes/<index>", "deleteIndex", writes.delete, "build"),
    _call("partial", "POST /1/indexes/<index>/<object>/partial", "addObject", writes.patch_object, "build"),
    _call("get", "GET /1/indexes/<index>/<object>", "search", reads.get_object),
    _call("put", "PUT /1/indexes/<index>/<object>", "addObject", writes.put_object, "build"),
    _call("delete_object", "DELETE /1/indexes/<index>/<object>", "deleteObject", writes.delete_object, "build"),
)

FAULTS = Service(ANY_SERVICE | {"repeat_page"}, tuple(dict.fromkeys(call.name for call in CALLS)))


class Algolia:
    """The indices and the log."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.reset()

    def reset(self) -> None:
        """Empty the log, and go back to the initial index of offers."""
        settings = self.world.settings
        self.store = Store(settings.algolia_task_ms / 1000)
        self.logs = Logs(settings.algolia_log_entries)
        if settings.offers:
            index = self.store.indices[INDEX] = Index()
            for offer in offers(settings):
                index.records.put(offer["objectID"], offer)

    def rights(self, request: Request) -> frozenset[str]:
        """Return the rights of the request's API key; raise `ApiError` (403) if the key is unknown."""

        def credential(name: str) -> str:
            return request.headers.get(name) or request.query_params.get(name) or ""

        rights = self.world.algolia_rights.get(credential("x-algolia-api-key"))
        if rights is None or credential("x-algolia-application-id") != self.world.settings.algolia_application:
            raise ApiError(403, "Invalid Application-ID or API key")
        return rights


def router(algolia: Algolia, faults: Faults) -> APIRouter:
    """Return the route of the service: one for all paths, since names in a path may contain an encoded slash."""
    routes = APIRouter()

    @routes.api_route("/1/{rest:path}", methods=["GET", "POST", "PUT", "DELETE"])
    async def respond(http_request: Request) -> Response:
        start = time.perf_counter()
        call, names = _find(http_request)
        request = ApiRequest(
            algolia.store, algolia.logs, names, dict(http_request.query_params), await http_request.body()
        )
        active: dict[str, Rule] = {}
        try:
            _prepare(request, http_request, algolia.rights(http_request), call)
            active = faults.inject(
                http_request,
                SERVICE,
                index=names.get("index"),
                call=call.name,
                page=lambda: reads.browsed_page(request) if call.name == "browse" else None,
            )
            request.repeats_page = "repeat_page" in active
            planned = error_response(active, _error_body) or PlannedResponse(msgspec.json.encode(call.respond(request)))
        except ApiError as error:
            planned = PlannedResponse(msgspec.json.encode(_error_body(error.status, str(error))), error.status)
        if call.kind:
            _log(request, http_request, call.kind, planned, time.perf_counter() - start)
        return await send(planned, active)

    return routes


def _no_path(_request: ApiRequest) -> object:
    raise ApiError(404, "Path not found")


_NO_CALL = _call("none", "GET /", "", _no_path)


def _find(request: Request) -> tuple[Call, dict[str, str]]:
    """Return the call and the values in its path."""
    path = request.scope["raw_path"].decode("latin-1")
    for call in CALLS:
        if call.method == request.method and (found := call.path.fullmatch(path)):
            return call, {name: unquote(text) for name, text in found.groupdict().items()}
    return _NO_CALL, {}


def _prepare(request: ApiRequest, http_request: Request, rights: frozenset[str], call: Call) -> None:
    """Check the rights and decompress the body; raise `ApiError` if either fails."""
    request.rights = rights
    if call.right:
        request.require(call.right)
    if http_request.headers.get("content-encoding") == "gzip":
        try:
            request.body = gzip.decompress(request.body)
        except (OSError, EOFError, zlib.error) as error:
            raise ApiError(400, "The body is not gzip") from error


def _error_body(status: int, message: str) -> object:
    return {"message": message, "status": status}


def _log(request: ApiRequest, http_request: Request, kind: str, planned: PlannedResponse, seconds: float) -> None:
    secret = "x-algolia-api-key"
    headers = [f"{name}: {'***' if name == secret else value}" for name, value in http_request.headers.items()]
    fields = {
        "method": http_request.method,
        "url": http_request.scope["raw_path"].decode("latin-1"),
        "ip": http_request.client.host if http_request.client else "",
        "query_headers": "\n".join(headers),
        "query_params": urlencode(
            {name: "***" if name.lower() == secret else text for name, text in request.query.items()}
        ),
        "processing_time_ms": str(round(seconds * 1000)),
        "nb_api_calls": str(request.operations),
    }
    if "index" in request.path:
        fields["index"] = request.name
    if request.hits is not None:
        fields["query_nb_hits"] = str(request.hits)
    request.logs.add(kind, planned.status, request.body, planned.body, **fields)

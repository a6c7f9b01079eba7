"""The application of `algolia`: its calls, its keys, its log.

It is served at the root: the official clients know a host, but no path before `/1`. What the stand-in does not know it
refuses, rather than leave it aside.
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
from sandbox.algolia.asked import Asked, Refused
from sandbox.algolia.logs import Logs
from sandbox.algolia.store import Index, Store
from sandbox.answers import Answer, refusal, send
from sandbox.faults import ANY_SERVICE, Faults, Rule, Service
from sandbox.offers import INDEX, offers
from sandbox.world import World

SERVICE = "algolia"


@dataclass(frozen=True)
class Call:
    """A call: how faults name it, its method and path, the right that it needs, what answers it.

    `kind` is its type in the log; one of none is not logged.
    """

    name: str
    method: str
    path: re.Pattern[str]
    right: str
    answer: Callable[[Asked], object]
    kind: str | None


def _call(name: str, asked: str, right: str, answer: Callable[[Asked], object], kind: str | None = "query") -> Call:
    method, path = asked.split()
    pattern = path.replace("*", r"\*").replace("<", "(?P<").replace(">", ">[^/]+)")
    return Call(name, method, re.compile(pattern), right, answer, kind)


# Of two that match, the first counts.
CALLS = (
    _call("logs", "GET /1/logs", "logs", reads.get_logs, None),
    _call("list", "GET /1/indexes", "listIndexes", reads.list_indices),
    _call("batch", "POST /1/indexes/*/batch", "addObject", writes.batch_of_indices, "build"),
    _call("get", "POST /1/indexes/*/objects", "search", reads.get_objects),
    _call("browse", "POST /1/indexes/<index>/browse", "browse", reads.browse),
    _call("search", "POST /1/indexes/<index>/query", "search", reads.search),
    _call("batch", "POST /1/indexes/<index>/batch", "addObject", writes.batch, "build"),
    _call("operation", "POST /1/indexes/<index>/operation", "addObject", writes.operate, "build"),
    _call("task", "GET /1/indexes/<index>/task/<task>", "addObject", reads.get_task),
    _call("settings", "GET /1/indexes/<index>/settings", "settings", reads.get_settings),
    _call("settings", "PUT /1/indexes/<index>/settings", "editSettings", writes.set_settings, "build"),
    _call("clear", "POST /1/indexes/<index>/clear", "deleteIndex", writes.clear, "build"),
    _call("delete", "DELETE /1/indexes/<index>", "deleteIndex", writes.delete, "build"),
    _call("add", "POST /1/indexes/<index>", "addObject", writes.add_object, "build"),
    _call("partial", "POST /1/indexes/<index>/<object>/partial", "addObject", writes.patch_object, "build"),
    _call("get", "GET /1/indexes/<index>/<object>", "search", reads.get_object),
    _call("put", "PUT /1/indexes/<index>/<object>", "addObject", writes.put_object, "build"),
    _call("delete_object", "DELETE /1/indexes/<index>/<object>", "deleteObject", writes.delete_object, "build"),
)

MISHAPS = Service(ANY_SERVICE | {"repeat_page"}, tuple(dict.fromkeys(call.name for call in CALLS)))


class Algolia:
    """The indices and the log."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.reset()

    def reset(self) -> None:
        """Forget all that was written and logged: there is the index of the offers, as it was at first."""
        settings = self.world.settings
        self.store = Store(settings.algolia_task_ms / 1000)
        self.logs = Logs(settings.algolia_log_entries)
        if settings.offers:
            index = self.store.indices[INDEX] = Index()
            for offer in offers(settings):
                index.records.put(offer["objectID"], offer)

    def rights(self, request: Request) -> frozenset[str]:
        """Return what the key of a request may do; one that there is not is refused."""

        def said(name: str) -> str:
            return request.headers.get(name) or request.query_params.get(name) or ""

        rights = self.world.algolia_rights.get(said("x-algolia-api-key"))
        if rights is None or said("x-algolia-application-id") != self.world.settings.algolia_application:
            raise Refused(403, "Invalid Application-ID or API key")
        return rights


def router(algolia: Algolia, faults: Faults) -> APIRouter:
    """Return the route of the service: one for all its paths, since the names in them may hold an encoded slash."""
    routes = APIRouter()

    @routes.api_route("/1/{rest:path}", methods=["GET", "POST", "PUT", "DELETE"])
    async def answer(request: Request) -> Response:
        start = time.perf_counter()
        call, names = _find(request)
        asked = Asked(algolia.store, algolia.logs, names, dict(request.query_params), await request.body())
        fired: dict[str, Rule] = {}
        try:
            _prepare(asked, request, algolia.rights(request), call)
            fired = faults.fire(
                request,
                SERVICE,
                index=names.get("index"),
                call=call.name,
                page=lambda: reads.browsed_page(asked) if call.name == "browse" else None,
            )
            asked.again = "repeat_page" in fired
            said = refusal(fired, _error) or Answer(msgspec.json.encode(call.answer(asked)))
        except Refused as refused:
            said = Answer(msgspec.json.encode(_error(refused.status, str(refused))), refused.status)
        if call.kind:
            _log(asked, request, call.kind, said, time.perf_counter() - start)
        return await send(said, fired)

    return routes


def _no_path(_asked: Asked) -> object:
    raise Refused(404, "Path not found")


_NO_CALL = _call("none", "GET /", "", _no_path)


def _find(request: Request) -> tuple[Call, dict[str, str]]:
    """Return the call, and the names in its path."""
    path = request.scope["raw_path"].decode("latin-1")
    for call in CALLS:
        if call.method == request.method and (found := call.path.fullmatch(path)):
            return call, {name: unquote(text) for name, text in found.groupdict().items()}
    return _NO_CALL, {}


def _prepare(asked: Asked, request: Request, rights: frozenset[str], call: Call) -> None:
    """Let in who may come in, and unpack the body."""
    asked.rights = rights
    if call.right:
        asked.need(call.right)
    if request.headers.get("content-encoding") == "gzip":
        try:
            asked.body = gzip.decompress(asked.body)
        except (OSError, EOFError, zlib.error) as error:
            raise Refused(400, "The body is not gzip") from error


def _error(status: int, told: str) -> object:
    return {"message": told, "status": status}


def _log(asked: Asked, request: Request, kind: str, said: Answer, seconds: float) -> None:
    secret = "x-algolia-api-key"
    headers = [f"{name}: {'***' if name == secret else value}" for name, value in request.headers.items()]
    told = {
        "method": request.method,
        "url": request.scope["raw_path"].decode("latin-1"),
        "ip": request.client.host if request.client else "",
        "query_headers": "\n".join(headers),
        "query_params": urlencode(
            {name: "***" if name.lower() == secret else text for name, text in asked.query.items()}
        ),
        "processing_time_ms": str(round(seconds * 1000)),
        "nb_api_calls": str(asked.operations),
    }
    if "index" in asked.path:
        told["index"] = asked.name
    if asked.hits is not None:
        told["query_nb_hits"] = str(asked.hits)
    asked.logs.note(kind, said.status, asked.body, said.body, **told)

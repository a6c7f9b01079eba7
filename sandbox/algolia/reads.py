"""The calls that read. Records come in the order in which they were first added; there is no ranking."""

from __future__ import annotations

import base64
from typing import Annotated, Any, get_args
from urllib.parse import urlencode

import msgspec
from msgspec import Meta, Raw, Struct

from sandbox.algolia.logs import LogType
from sandbox.algolia.records import show
from sandbox.algolia.request import ApiError, ApiRequest, parse
from sandbox.algolia.store import Index

HitsPerPage = Annotated[int, Meta(ge=1, le=1000)]
Number = Annotated[int, Meta(ge=0)]


class _Browse(Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    attributes_to_retrieve: list[str] | None = None
    hits_per_page: HitsPerPage = 1000
    cursor: str | None = None


class _Cursor(Struct, rename="camel", forbid_unknown_fields=True):
    """Where a browse continues, with the parameters of its first page."""

    place: Number
    page: Number
    hits_per_page: HitsPerPage
    attributes_to_retrieve: list[str] | None

    def text(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()


def _cursor(request: ApiRequest) -> _Cursor:
    query = request.read(_Browse)
    if query.cursor is None:
        return _Cursor(0, 0, query.hits_per_page, query.attributes_to_retrieve)
    try:
        return parse(base64.b64decode(query.cursor, b"-_", validate=True), _Cursor)
    except (ValueError, ApiError) as error:
        raise ApiError(400, "Invalid cursor") from error


def browsed_page(request: ApiRequest) -> int | None:
    """Return the number of the browsed page, starting at 1; None if the request is invalid."""
    try:
        return _cursor(request).page + 1
    except ApiError:
        return None


def browse(request: ApiRequest) -> object:
    """Return a page, with the cursor of the next one if there is one."""
    cursor = _cursor(request)
    records = request.index.records
    page, place = records.page(cursor.place, cursor.hits_per_page)
    request.hits = len(records)
    pages = -(-request.hits // cursor.hits_per_page)
    params: dict[str, Any] = {"hitsPerPage": cursor.hits_per_page}
    if cursor.attributes_to_retrieve is not None:
        params["attributesToRetrieve"] = msgspec.json.encode(cursor.attributes_to_retrieve).decode()
    response: dict[str, Any] = {
        "hits": _show(page, cursor.attributes_to_retrieve),
        "page": cursor.page,
        "nbHits": request.hits,
        "nbPages": pages,
        "hitsPerPage": cursor.hits_per_page,
        "processingTimeMS": 1,
        "query": "",
        "params": urlencode(params),
        "exhaustiveNbHits": True,
    }
    if request.repeats_page:
        response["cursor"] = cursor.text()
    elif place is not None:
        response["cursor"] = msgspec.structs.replace(cursor, place=place, page=cursor.page + 1).text()
    return response


def _show(records: list[bytes], attributes: list[str] | None) -> Raw:
    for attribute in attributes or ():
        if attribute.startswith("-") or "." in attribute:
            raise ApiError(400, f"The stand-in returns whole first-level attributes only, not {attribute}")
    return show(records, attributes)


def get_object(request: ApiRequest) -> object:
    """Return a record."""
    record = request.index.records.get(request.path["object"])
    if record is None:
        raise ApiError(404, "ObjectID does not exist")
    attributes = request.query.get("attributesToRetrieve")
    return Raw(bytes(_show([record], attributes.split(",") if attributes else None))[1:-1])


def get_settings(request: ApiRequest) -> object:
    """Return the settings of an index."""
    return request.index.settings


def get_task(request: ApiRequest) -> object:
    """Return whether a task is done."""
    number = request.path["task"]
    try:
        published = request.store.is_published(int(number))
    except (ValueError, LookupError) as error:
        raise ApiError(404, f"Task {number} does not exist") from error
    return {"status": "published" if published else "notPublished", "pendingTask": not published}


def get_logs(request: ApiRequest) -> object:
    """Return a part of the log."""
    kind: Any = request.query.get("type", "all")
    if kind not in get_args(LogType):
        raise ApiError(400, f"Invalid value for type: {kind}")
    offset, length = request.number("offset", 0, 0, 10**9), request.number("length", 10, 1, 1000)
    return {"logs": request.logs.read(offset, length, kind, request.query.get("indexName"))}


def list_indices(request: ApiRequest) -> object:
    """Return the names and sizes of the indices."""
    indices = sorted(request.store.indices.items())
    size = request.number("hitsPerPage", 100, 1, 1000)
    first = request.number("page", 0, 0, 10**9) * size
    items = [_describe(name, index, request.store.pending(name)) for name, index in indices[first : first + size]]
    return {"items": items, "nbPages": -(-len(indices) // size)}


def _describe(name: str, index: Index, pending: int) -> dict[str, Any]:
    size = sum(map(len, index.records))
    return {
        "name": name,
        "createdAt": index.created,
        "updatedAt": index.updated,
        "entries": len(index.records),
        "dataSize": size,
        "fileSize": size,
        "lastBuildTimeS": 0,
        "numberOfPendingTasks": pending,
        "pendingTask": pending > 0,
    }

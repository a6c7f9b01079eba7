"""The calls of `algolia` that read. Records come in the order in which they were first added, there is no ranking."""

from __future__ import annotations

import base64
from typing import Annotated, Any, get_args
from urllib.parse import urlencode

import msgspec
from msgspec import Meta, Raw, Struct, field

from sandbox.algolia.asked import Asked, Refused, parse
from sandbox.algolia.logs import LogType
from sandbox.algolia.records import show
from sandbox.algolia.store import Index

_REACH = 1000  # hits that a search can get at

HitsPerPage = Annotated[int, Meta(ge=1, le=1000)]
Number = Annotated[int, Meta(ge=0)]


class _Shown(Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What browsing and searching both take; the parameters that only add to an answer are taken and left aside."""

    query: str = ""
    attributes_to_retrieve: list[str] | None = None
    attributes_to_highlight: list[str] | None = None
    attributes_to_snippet: list[str] | None = None
    analytics: bool = True
    click_analytics: bool = False
    get_ranking_info: bool = False


class _Browse(_Shown):
    hits_per_page: HitsPerPage = 1000
    cursor: str | None = None


class _Search(_Shown):
    hits_per_page: HitsPerPage = 20
    page: Number = 0


class _Cursor(Struct, rename="camel", forbid_unknown_fields=True):
    """Where a browse goes on, and all else that it needs."""

    place: Number
    page: Number
    hits_per_page: HitsPerPage
    attributes_to_retrieve: list[str] | None

    def text(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()


def _cursor(asked: Asked) -> _Cursor:
    wanted = asked.read(_Browse)
    if wanted.cursor is None:
        if wanted.query:
            raise Refused(400, "The stand-in does not browse with a query")
        return _Cursor(0, 0, wanted.hits_per_page, wanted.attributes_to_retrieve)
    try:
        return parse(base64.b64decode(wanted.cursor, b"-_", validate=True), _Cursor)
    except (ValueError, Refused) as error:
        raise Refused(400, "Invalid cursor") from error


def browsed_page(asked: Asked) -> int | None:
    """Return the number of the page that is browsed, from 1 on; None: it cannot be told."""
    try:
        return _cursor(asked).page + 1
    except Refused:
        return None


def browse(asked: Asked) -> object:
    """Answer with a page, and with the cursor of the next one if there is one."""
    cursor = _cursor(asked)
    records = asked.index.records
    page, place = records.page(cursor.place, cursor.hits_per_page)
    asked.hits = len(records)
    pages = -(-asked.hits // cursor.hits_per_page)
    answer = _hits(page, cursor, cursor.page) | {"nbHits": asked.hits, "nbPages": pages}
    if asked.again:
        answer["cursor"] = cursor.text()
    elif place is not None:
        answer["cursor"] = msgspec.structs.replace(cursor, place=place, page=cursor.page + 1).text()
    return answer


def search(asked: Asked) -> object:
    """Answer with a page of the records that have all words of the query in their texts."""
    wanted = asked.read(_Search)
    words = wanted.query.casefold().split()
    found = [record for record in asked.index.records if not words or _has(record, words)]
    first = wanted.page * wanted.hits_per_page
    page = found[first : min(first + wanted.hits_per_page, _REACH)]
    asked.hits = len(found)
    pages = -(-min(asked.hits, _REACH) // wanted.hits_per_page)
    return _hits(page, wanted, wanted.page) | {"nbHits": asked.hits, "nbPages": pages, "query": wanted.query}


def _has(record: bytes, words: list[str]) -> bool:
    texts = " ".join(value for value in msgspec.json.decode(record).values() if isinstance(value, str)).casefold()
    return all([word in texts for word in words])


def _hits(page: list[bytes], wanted: _Cursor | _Search, number: int) -> dict[str, Any]:
    params: dict[str, Any] = {"hitsPerPage": wanted.hits_per_page}
    if wanted.attributes_to_retrieve is not None:
        params["attributesToRetrieve"] = msgspec.json.encode(wanted.attributes_to_retrieve).decode()
    return {
        "hits": _show(page, wanted.attributes_to_retrieve),
        "page": number,
        "hitsPerPage": wanted.hits_per_page,
        "processingTimeMS": 1,
        "query": "",
        "params": urlencode(params),
        "exhaustiveNbHits": True,
    }


def _show(records: list[bytes], attributes: list[str] | None) -> Raw:
    for attribute in attributes or ():
        if attribute.startswith("-") or "." in attribute:
            raise Refused(400, f"The stand-in shows whole first-level attributes, not {attribute}")
    return show(records, attributes)


def get_object(asked: Asked) -> object:
    """Answer with a record."""
    record = asked.index.records.get(asked.path["object"])
    if record is None:
        raise Refused(404, "ObjectID does not exist")
    attributes = asked.query.get("attributesToRetrieve")
    return Raw(bytes(_show([record], attributes.split(",") if attributes else None))[1:-1])


class _Wanted(Struct, rename="camel"):
    index_name: str
    object_id: str = field(name="objectID")
    attributes_to_retrieve: list[str] | None = None


class _Objects(Struct):
    requests: list[_Wanted]


def get_objects(asked: Asked) -> object:
    """Answer with records of several indices, null for one that there is not."""
    results = []
    for wanted in asked.read(_Objects).requests:
        index = asked.store.indices.get(wanted.index_name)
        if index is None:
            raise Refused(404, f"Index {wanted.index_name} does not exist")
        record = index.records.get(wanted.object_id)
        results.append(None if record is None else Raw(bytes(_show([record], wanted.attributes_to_retrieve))[1:-1]))
    return {"results": results}


def get_settings(asked: Asked) -> object:
    """Answer with the settings of an index."""
    return asked.index.settings


def get_task(asked: Asked) -> object:
    """Tell whether a task is done."""
    number = asked.path["task"]
    try:
        published = asked.store.is_published(int(number))
    except (ValueError, LookupError) as error:
        raise Refused(404, f"Task {number} does not exist") from error
    return {"status": "published" if published else "notPublished", "pendingTask": not published}


def get_logs(asked: Asked) -> object:
    """Answer with a part of the log."""
    kind: Any = asked.query.get("type", "all")
    if kind not in get_args(LogType):
        raise Refused(400, f"Invalid value for type: {kind}")
    offset, length = asked.number("offset", 0, 0, 10**9), asked.number("length", 10, 1, 1000)
    return {"logs": asked.logs.read(offset, length, kind, asked.query.get("indexName"))}


def list_indices(asked: Asked) -> object:
    """Describe the indices."""
    indices = sorted(asked.store.indices.items())
    size = asked.number("hitsPerPage", 100, 1, 1000)
    first = asked.number("page", 0, 0, 10**9) * size
    items = [_describe(name, index, asked.store.pending(name)) for name, index in indices[first : first + size]]
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

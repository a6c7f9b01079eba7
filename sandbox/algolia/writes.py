"""The calls of `algolia` that write: each is accepted as a task."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import uuid4

from msgspec import Meta, Struct

from sandbox.algolia.asked import Asked, Refused
from sandbox.algolia.records import check_operations
from sandbox.algolia.store import Write, now

Action = Literal[
    "addObject",
    "updateObject",
    "partialUpdateObject",
    "partialUpdateObjectNoCreate",
    "deleteObject",
    "delete",
    "clear",
]
_RIGHTS = {"deleteObject": "deleteObject", "delete": "deleteIndex", "clear": "deleteIndex"}


class _Request(Struct, rename="camel"):
    action: Action
    body: dict[str, Any] = {}
    index_name: str = ""


class _Batch(Struct):
    requests: list[_Request]


def _read_batch(asked: Asked) -> tuple[list[_Request], list[Write]]:
    requests = asked.read(_Batch).requests
    for right in {_RIGHTS.get(request.action, "addObject") for request in requests}:
        asked.need(right)
    asked.operations = len(requests)
    return requests, [_write(request.action, request.body) for request in requests]


def _write(action: str, attributes: dict[str, Any]) -> Write:
    if action in ("delete", "clear"):
        return Write(action)
    object_id = attributes.get("objectID")
    if type(object_id) is int:
        object_id = attributes["objectID"] = str(object_id)
    if object_id is None and action == "addObject":
        object_id = attributes["objectID"] = uuid4().hex
    if not isinstance(object_id, str) or not object_id:
        raise Refused(400, f"{action} needs an objectID that is a text")
    if action.startswith("partialUpdate"):
        try:
            check_operations(attributes)
        except ValueError as error:
            raise Refused(400, str(error)) from error
    return Write(action, object_id, attributes)


def batch(asked: Asked) -> object:
    """Accept actions on one index, in their order."""
    _, writes = _read_batch(asked)
    task = asked.store.write(asked.name, writes)
    return {"taskID": task, "objectIDs": [write.object_id for write in writes]}


def batch_of_indices(asked: Asked) -> object:
    """Accept actions on several indices: a task for each index."""
    requests, writes = _read_batch(asked)
    by_index: dict[str, list[Write]] = {}
    for request, write in zip(requests, writes, strict=True):
        if not request.index_name:
            raise Refused(400, "indexName is missing")
        by_index.setdefault(request.index_name, []).append(write)
    tasks = {name: asked.store.write(name, part) for name, part in by_index.items()}
    return {"taskID": tasks, "objectIDs": [write.object_id for write in writes]}


def _accept(asked: Asked, action: str, attributes: dict[str, Any], stamp: str) -> dict[str, Any]:
    if "object" in asked.path:
        attributes["objectID"] = asked.path["object"]
    write = _write(action, attributes)
    return {"taskID": asked.store.write(asked.name, [write]), stamp: now(), "objectID": write.object_id}


def add_object(asked: Asked) -> object:
    """Accept a record, which gets an objectID if it has none."""
    return _accept(asked, "addObject", asked.read(dict[str, Any]), "createdAt")


def put_object(asked: Asked) -> object:
    """Accept a record in place of another of its objectID."""
    return _accept(asked, "updateObject", asked.read(dict[str, Any]), "updatedAt")


def patch_object(asked: Asked) -> object:
    """Accept attributes of a record; `createIfNotExists=false`: of one that there is."""
    create = asked.query.get("createIfNotExists", "true") != "false"
    action = "partialUpdateObject" if create else "partialUpdateObjectNoCreate"
    return _accept(asked, action, asked.read(dict[str, Any]), "updatedAt")


def delete_object(asked: Asked) -> object:
    """Accept that a record goes."""
    return _accept(asked, "deleteObject", {}, "deletedAt")


class _Operation(Struct):
    operation: Literal["move", "copy"]
    destination: Annotated[str, Meta(min_length=1)]
    scope: list[Literal["settings", "rules", "synonyms"]] | None = None


def operate(asked: Asked) -> object:
    """Accept a move or a copy of an index."""
    wanted = asked.read(_Operation)
    if wanted.operation == "move" and wanted.scope is not None:
        raise Refused(400, "scope is for a copy")
    if wanted.destination == asked.name:
        raise Refused(400, "Source and destination are the same")
    if wanted.operation == "move":
        task = asked.store.move(asked.name, wanted.destination)
    else:
        task = asked.store.copy(asked.name, wanted.destination, wanted.scope)
    return {"taskID": task, "updatedAt": now()}


def set_settings(asked: Asked) -> object:
    """Accept settings of an index."""
    return {"taskID": asked.store.set_settings(asked.name, asked.read(dict[str, Any])), "updatedAt": now()}


def clear(asked: Asked) -> object:
    """Accept that all records of an index go."""
    return {"taskID": asked.store.write(asked.name, [Write("clear")]), "updatedAt": now()}


def delete(asked: Asked) -> object:
    """Accept that an index goes."""
    return {"taskID": asked.store.write(asked.name, [Write("delete")]), "deletedAt": now()}

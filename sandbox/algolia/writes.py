"""The calls that write. Each is accepted as a task."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import uuid4

from msgspec import Meta, Struct

from sandbox.algolia.request import ApiError, ApiRequest
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


class _Operation(Struct):
    action: Action
    body: dict[str, Any] = {}


class _Batch(Struct):
    requests: list[_Operation]


def _write(action: str, attributes: dict[str, Any]) -> Write:
    if action in ("delete", "clear"):
        return Write(action)
    object_id = attributes.get("objectID")
    if type(object_id) is int:
        object_id = attributes["objectID"] = str(object_id)
    if object_id is None and action == "addObject":
        object_id = attributes["objectID"] = uuid4().hex
    if not isinstance(object_id, str) or not object_id:
        raise ApiError(400, f"{action} needs an objectID that is a string")
    for value in attributes.values() if action.startswith("partialUpdate") else ():
        if isinstance(value, dict) and "_operation" in value:
            raise ApiError(400, f"The stand-in does not support built-in operations such as {value['_operation']!r}")
    return Write(action, object_id, attributes)


def batch(request: ApiRequest) -> object:
    """Accept a batch of actions on one index, to be carried out in order."""
    operations = request.read(_Batch).requests
    for right in {_RIGHTS.get(each.action, "addObject") for each in operations}:
        request.require(right)
    request.operations = len(operations)
    writes = [_write(each.action, each.body) for each in operations]
    task = request.store.write(request.name, writes)
    return {"taskID": task, "objectIDs": [write.object_id for write in writes]}


def _accept(request: ApiRequest, action: str, attributes: dict[str, Any], stamp: str) -> dict[str, Any]:
    attributes["objectID"] = request.path["object"]
    write = _write(action, attributes)
    return {"taskID": request.store.write(request.name, [write]), stamp: now(), "objectID": write.object_id}


def put_object(request: ApiRequest) -> object:
    """Accept a record that replaces the one with its objectID."""
    return _accept(request, "updateObject", request.read(dict[str, Any]), "updatedAt")


def patch_object(request: ApiRequest) -> object:
    """Accept a partial update; with `createIfNotExists=false`, only of an existing record."""
    create = request.query.get("createIfNotExists", "true") != "false"
    action = "partialUpdateObject" if create else "partialUpdateObjectNoCreate"
    return _accept(request, action, request.read(dict[str, Any]), "updatedAt")


def delete_object(request: ApiRequest) -> object:
    """Accept the deletion of a record."""
    return _accept(request, "deleteObject", {}, "deletedAt")


class _IndexOperation(Struct):
    operation: Literal["move", "copy"]
    destination: Annotated[str, Meta(min_length=1)]
    scope: list[Literal["settings", "rules", "synonyms"]] | None = None


def operate(request: ApiRequest) -> object:
    """Accept a move or a copy of an index."""
    body = request.read(_IndexOperation)
    if body.operation == "move" and body.scope is not None:
        raise ApiError(400, "scope is only allowed for a copy")
    if body.destination == request.name:
        raise ApiError(400, "Source and destination are the same")
    if body.operation == "move":
        task = request.store.move(request.name, body.destination)
    else:
        task = request.store.copy(request.name, body.destination, body.scope)
    return {"taskID": task, "updatedAt": now()}


def set_settings(request: ApiRequest) -> object:
    """Accept new settings of an index."""
    return {"taskID": request.store.set_settings(request.name, request.read(dict[str, Any])), "updatedAt": now()}


def clear(request: ApiRequest) -> object:
    """Accept the deletion of all records of an index."""
    return {"taskID": request.store.write(request.name, [Write("clear")]), "updatedAt": now()}


def delete(request: ApiRequest) -> object:
    """Accept the deletion of an index."""
    return {"taskID": request.store.write(request.name, [Write("delete")]), "deletedAt": now()}

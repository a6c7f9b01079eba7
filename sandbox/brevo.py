"""Stand-in for the contacts API of the mailing service Brevo, under /brevo/v3.

Implements https://developers.brevo.com/reference/create-contact and the calls `get-contact-info`, `update-contact`,
`delete-contact` and `get-contacts`, with the headers of https://developers.brevo.com/docs/limit-headers. An address and
an ext_id each identify one contact. As in the service, attributes that the account does not define, and values that do
not fit an attribute's type, are silently ignored. Where the reference says nothing:

- with `updateEnabled`, the contact with the ext_id is updated, otherwise the one with the address; it then has both
  identifiers of the request. The order follows https://help.brevo.com/hc/articles/32331116133522. If another contact
  has one of them, that is a conflict, as the description of `forceMerge` implies;
- error texts are those that clients report (https://github.com/PipedreamHQ/pipedream/issues/15034,
  https://github.com/getbrevo/brevo-python/issues/13), or invented;
- the maximum text length is a setting of the sandbox.

Unknown fields, and `forceMerge`, are refused. `/sandbox/brevo` shows the contacts and how often each was created and
updated.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import msgspec
from fastapi import APIRouter, Request, Response

from sandbox.faults import ANY_SERVICE, Faults, Rule, Service
from sandbox.responses import PlannedResponse, error_response, send
from sandbox.world import World

SERVICE = "brevo"
FAULTS = Service(ANY_SERVICE, ("create", "get", "update", "delete", "list"))

_PREFIX = "/brevo/v3/"
_CALLS = {"GET": "get", "PUT": "update", "DELETE": "delete"}
_NAMES = {
    "list_ids": "listIds",
    "unlink_list_ids": "unlinkListIds",
    "email_blacklisted": "emailBlacklisted",
    "update_enabled": "updateEnabled",
}
_CODES = {
    400: "invalid_parameter",
    401: "unauthorized",
    403: "permission_denied",
    404: "document_not_found",
    405: "method_not_allowed",
    429: "too_many_requests",
}
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = re.compile(rf"{_ATOM}(\.{_ATOM})*@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]{{2,}}")
_MAX_LOCAL_PART, _MAX_ADDRESS = 64, 254
_BODY_FAULTS = {"cut", "truncated_json", "html", "empty_object"}

Value = str | bool | int | float | list[str]


class ApiError(Exception):
    """An error response. `duplicates` names the identifiers that already belong to another contact."""

    def __init__(self, status: int, message: str, code: str = "", duplicates: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.body = _error_body(status, message)
        if code:
            self.body["code"] = code
        if duplicates:
            self.body["metadata"] = {"duplicate_identifiers": duplicates}


class Update(msgspec.Struct, forbid_unknown_fields=True, rename=_NAMES):
    """The body of an update."""

    attributes: dict[str, Value] = {}
    ext_id: str = ""
    list_ids: list[int] = []
    unlink_list_ids: list[int] = []
    email_blacklisted: bool | None = None


class Create(Update, rename=_NAMES):
    """The body of a creation."""

    email: str = ""
    update_enabled: bool = False


class Contact(msgspec.Struct):
    """A contact of the account."""

    id: int
    email: str
    ext_id: str
    attributes: dict[str, Value]
    list_ids: list[int]
    created_at: datetime
    modified_at: datetime
    email_blacklisted: bool = False
    updated: int = 0


_CREATE = msgspec.json.Decoder(Create)
_UPDATE = msgspec.json.Decoder(Update)


@dataclass
class Rate:
    """Limits the requests per second, in windows of one second; 0 means no limit."""

    limit: int
    window: int = 0
    used: int = 0

    def acquire(self) -> tuple[bool, dict[str, str]]:
        """Count a request. Return whether it is allowed, and the rate limit headers of its response."""
        if not self.limit:
            return True, {}
        now = time.monotonic()
        if int(now) != self.window:
            self.window, self.used = int(now), 0
        self.used += 1
        left = self.limit - self.used
        return left >= 0, {
            "x-sib-ratelimit-limit": str(self.limit),
            "x-sib-ratelimit-remaining": str(max(left, 0)),
            "x-sib-ratelimit-reset": str(math.ceil(self.window + 1 - now) or 1),
        }


class Brevo:
    """The account: its contacts by id, address and ext_id, and the number of creations per contact."""

    def __init__(self, world: World) -> None:
        self.key = world.settings.brevo_key
        self.lists = world.brevo_lists
        self.types = world.brevo_attributes
        self.max_text = world.settings.brevo_longest_text
        self.rate = Rate(world.settings.brevo_rate)
        self.reset()

    def reset(self) -> None:
        """Remove all contacts and reset the counts."""
        self.contacts: dict[int, Contact] = {}
        self.by_email: dict[str, Contact] = {}
        self.by_ext_id: dict[str, Contact] = {}
        self.created: Counter[str] = Counter()
        self.updated = self.deleted = self.last_id = 0

    def create(self, request: Create) -> PlannedResponse:
        """Create a contact, or update the existing one if the request allows that."""
        email, attributes = _address(request.email), self._valid_attributes(request)
        if not email and not request.ext_id:
            raise ApiError(
                400, "Please provide email, ext_id or SMS attribute to create a contact", "missing_parameter"
            )
        contact = self.by_ext_id.get(request.ext_id) or self.by_email.get(email)
        if contact is None:
            self.last_id += 1
            now = datetime.now(UTC)
            contact = Contact(self.last_id, "", "", {}, [], now, now)
            self._write(contact, email, request, attributes)
            self.contacts[contact.id] = contact
            self.created[request.ext_id or email] += 1
            return PlannedResponse(b'{"id":%d}' % contact.id, 201)
        if not request.update_enabled:
            taken = [name for name, key, index in self._identifiers(email, request.ext_id) if key in index]
            raise _conflict("create", taken)
        return self.update(contact, request, email, attributes)

    def update(
        self, contact: Contact, request: Update, email: str, attributes: dict[str, Value | None]
    ) -> PlannedResponse:
        """Update a contact, unless its new address or ext_id belongs to another one."""
        identifiers = self._identifiers(email, request.ext_id)
        if taken := [name for name, key, index in identifiers if key and index.get(key, contact) is not contact]:
            raise _conflict("update", taken)
        self._write(contact, email, request, attributes)
        contact.updated += 1
        contact.modified_at = datetime.now(UTC)
        self.updated += 1
        return PlannedResponse(b"", 204)

    def put(self, contact: Contact, request: Update) -> PlannedResponse:
        """Update a contact; a new address comes as the attribute EMAIL."""
        return self.update(
            contact, request, _address(str(request.attributes.get("EMAIL", ""))), self._valid_attributes(request)
        )

    def delete(self, contact: Contact) -> PlannedResponse:
        """Delete a contact; its creation stays counted."""
        del self.contacts[contact.id]
        self.by_email.pop(contact.email, None)
        self.by_ext_id.pop(contact.ext_id, None)
        self.deleted += 1
        return PlannedResponse(b"", 204)

    def find(self, identifier: str, kind: str | None) -> Contact:
        """Return the contact with an identifier; without a `kind`, the identifier is an id or an address."""
        kind = kind or ("contact_id" if identifier.isdecimal() else "email_id")
        if kind not in ("contact_id", "email_id", "ext_id"):
            raise ApiError(400, f"Invalid identifierType: {kind}")
        if kind == "email_id":
            found = self.by_email.get(_address(identifier))
        elif kind == "ext_id":
            found = self.by_ext_id.get(identifier)
        else:
            found = self.contacts.get(int(identifier)) if identifier.isdecimal() else None
        if found is None:
            raise ApiError(404, "Contact does not exist")
        return found

    def page(self, query: dict[str, str]) -> PlannedResponse:
        """Return a page of the contacts, newest first."""
        limit, offset = _number(query, "limit", 50), _number(query, "offset", 0)
        if limit > 1000:
            raise ApiError(400, "Limit exceeds max value", "out_of_range")
        ids = sorted(self.contacts, reverse=query.get("sort", "desc") != "asc")[offset : offset + limit]
        body = {"contacts": [_as_json(self.contacts[each]) for each in ids], "count": len(self.contacts)}
        return PlannedResponse(msgspec.json.encode(body))

    def overview(self) -> bytes:
        """Return the content of `/sandbox/brevo`."""
        contacts = [
            _as_json(each)
            | {"ext_id": each.ext_id, "created": self.created[each.ext_id or each.email], "updated": each.updated}
            for each in self.contacts.values()
        ]
        counts = {"created": self.created.total(), "updated": self.updated, "deleted": self.deleted}
        return msgspec.json.encode({"count": len(contacts), **counts, "contacts": contacts})

    def _identifiers(self, email: str, ext_id: str) -> list[tuple[str, str, dict[str, Contact]]]:
        return [("email", email, self.by_email), ("ext_id", ext_id, self.by_ext_id)]

    def _write(self, contact: Contact, email: str, request: Update, attributes: dict[str, Value | None]) -> None:
        if email and email != contact.email:
            self.by_email.pop(contact.email, None)
            self.by_email[email] = contact
            contact.email = email
        if request.ext_id and request.ext_id != contact.ext_id:
            self.by_ext_id.pop(contact.ext_id, None)
            self.by_ext_id[request.ext_id] = contact
            contact.ext_id = request.ext_id
        for name, value in attributes.items():
            if value is None:
                contact.attributes.pop(name, None)
            else:
                contact.attributes[name] = value
        if request.list_ids or request.unlink_list_ids:
            contact.list_ids = sorted({*contact.list_ids, *request.list_ids} - {*request.unlink_list_ids})
        if request.email_blacklisted is not None:
            contact.email_blacklisted = request.email_blacklisted

    def _valid_attributes(self, request: Update) -> dict[str, Value | None]:
        """Return the attributes that the account defines, with values of their types; None clears an attribute."""
        if unknown := {*request.list_ids, *request.unlink_list_ids} - self.lists:
            raise ApiError(400, f"Invalid list ids: {', '.join(map(str, sorted(unknown)))}")
        valid: dict[str, Value | None] = {}
        for name, value in request.attributes.items():
            if isinstance(value, str) and len(value) > self.max_text:
                raise ApiError(400, f"Attribute {name} exceeds {self.max_text} characters")
            kind = self.types.get(name)
            if kind is None:
                continue
            fitted = None if value == "" else _fit(kind, value)
            if fitted is not None or value == "":
                valid[name] = fitted
        return valid


def _fit(kind: str, value: Value) -> Value | None:
    """Return the value as an attribute of this type stores it; None if it does not fit."""
    if isinstance(value, list):
        return value if kind == "multiple-choice" else None
    if kind == "boolean":
        return {"true": True, "false": False}.get(str(value).lower())
    if kind == "text":
        return str(value)
    if kind == "date":
        return value if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value) else None
    try:
        return float(value) if kind == "float" else None
    except ValueError:
        return None


def _address(text: str) -> str:
    """Return an address as it is stored; an empty text means no address."""
    address = text.strip().lower()
    is_long = len(address) > _MAX_ADDRESS or address.find("@") > _MAX_LOCAL_PART
    if address and (is_long or not _ADDRESS.fullmatch(address)):
        raise ApiError(400, "Invalid email address")
    return address


def _number(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal():
        raise ApiError(400, f"Invalid {name}: {text}")
    return int(text)


def _conflict(what: str, taken: list[str]) -> ApiError:
    message = f"Unable to {what} contact, {' and '.join(taken)} is already associated with another Contact"
    return ApiError(400, message, "duplicate_parameter", taken)


def _as_json(contact: Contact) -> dict[str, Any]:
    attributes: dict[str, Value] = dict(contact.attributes)
    if contact.ext_id:
        attributes["EXT_ID"] = contact.ext_id
    return {
        "id": contact.id,
        "email": contact.email or None,
        "emailBlacklisted": contact.email_blacklisted,
        "smsBlacklisted": False,
        "createdAt": _time(contact.created_at),
        "modifiedAt": _time(contact.modified_at),
        "listIds": contact.list_ids,
        "attributes": attributes,
    }


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _error_body(status: int, message: str) -> dict[str, Any]:
    return {"code": _CODES.get(status, "bad_request"), "message": message}


def _call(request: Request) -> tuple[str, str]:
    """Return the name of the call, and the identifier in its path."""
    path = request.scope["raw_path"].decode("latin-1").removeprefix(_PREFIX).rstrip("/")
    head, _, identifier = path.partition("/")
    if head != "contacts" or "/" in identifier:
        raise ApiError(404, "Path not found")
    call = _CALLS.get(request.method) if identifier else {"POST": "create", "GET": "list"}.get(request.method)
    if call is None:
        raise ApiError(405, f"{request.method} Method is not allowed on this path")
    return call, unquote(identifier)


async def _handle(brevo: Brevo, call: str, identifier: str, request: Request) -> PlannedResponse:
    query = dict(request.query_params)
    try:
        if call == "create":
            return brevo.create(_CREATE.decode(await request.body()))
        if call == "list":
            return brevo.page(query)
        contact = brevo.find(identifier, query.get("identifierType"))
        if call == "update":
            return brevo.put(contact, _UPDATE.decode(await request.body()))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, f"Invalid JSON: {error}") from error
    return brevo.delete(contact) if call == "delete" else PlannedResponse(msgspec.json.encode(_as_json(contact)))


def _check_key(brevo: Brevo, request: Request) -> None:
    given = request.headers.get("api-key")
    if brevo.key and given != brevo.key:
        raise ApiError(401, "authentication not found in headers" if given is None else "Key not found")


def router(brevo: Brevo, faults: Faults) -> APIRouter:
    """Return the routes of the service and of `/sandbox/brevo`."""
    routes = APIRouter()

    async def respond(request: Request) -> Response:
        active: dict[str, Rule] = {}
        is_allowed, headers = brevo.rate.acquire()
        try:
            _check_key(brevo, request)
            if not is_allowed:
                raise ApiError(429, "Too many requests: the rate limit is exceeded")
            call, identifier = _call(request)
            active = faults.inject(request, SERVICE, call=call)
            planned = error_response(active, _error_body) or await _handle(brevo, call, identifier, request)
        except ApiError as error:
            planned = PlannedResponse(msgspec.json.encode(error.body), error.status)
        if not planned.body and _BODY_FAULTS & active.keys():  # these faults need a body to damage
            planned = replace(planned, status=200, body=b'{"message":"Contact updated"}')
        return await send(replace(planned, headers=planned.headers | headers), active)

    async def overview(_request: Request) -> Response:
        return Response(brevo.overview(), media_type="application/json")

    async def clear(request: Request) -> Response:
        brevo.reset()
        return await overview(request)

    # Plain Starlette routes: the overhead of a FastAPI route is larger than the call itself.
    routes.add_route(f"{_PREFIX}{{rest:path}}", respond, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    routes.add_route("/sandbox/brevo", overview, methods=["GET"])
    routes.add_route("/sandbox/brevo", clear, methods=["DELETE"])
    return routes

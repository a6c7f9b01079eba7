"""A stand-in for the contacts of a mailing service: Brevo's API, under /brevo/v3.

Calls as in https://developers.brevo.com/reference/create-contact, its neighbours `get-contact-info`, `update-contact`,
`delete-contact` and `get-contacts`; headers of the rate limit as in https://developers.brevo.com/docs/limit-headers.
An address and an ext_id each belong to one contact. Attributes that the account has not, and values that do not fit
the type of theirs, are ignored without a word, as there. Where the reference is silent:

- with `updateEnabled`, the contact of the ext_id is updated, else that of the address; both become those of the
  request. The order is that of https://help.brevo.com/hc/articles/32331116133522; another contact that has one of them
  is a conflict, as `forceMerge` tells of it;
- wordings are those that clients report (https://github.com/PipedreamHQ/pipedream/issues/15034,
  https://github.com/getbrevo/brevo-python/issues/13), or our own;
- the longest text is a setting of ours.

Fields that the stand-in does not know, `forceMerge` too, are refused. `/sandbox/brevo` shows the contacts, and how
often each was created and updated.
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

from sandbox.answers import Answer, refusal, send
from sandbox.faults import ANY_SERVICE, Faults, Rule, Service
from sandbox.world import World

SERVICE = "brevo"
MISHAPS = Service(ANY_SERVICE, ("create", "get", "update", "delete", "list"))

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
_LONGEST_LOCAL_PART, _LONGEST_ADDRESS = 64, 254
_SPOILING = {"cut", "truncated_json", "html"}

Value = str | bool | int | float | list[str]


class Refused(Exception):
    """The call is answered with this status; `duplicates` are the identifiers that another contact has."""

    def __init__(self, status: int, message: str, code: str = "", duplicates: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.body = _error(status, message)
        if code:
            self.body["code"] = code
        if duplicates:
            self.body["metadata"] = {"duplicate_identifiers": duplicates}


class Update(msgspec.Struct, forbid_unknown_fields=True, rename=_NAMES):
    """What a call changes of a contact."""

    attributes: dict[str, Value] = {}
    ext_id: str = ""
    list_ids: list[int] = []
    unlink_list_ids: list[int] = []
    email_blacklisted: bool | None = None


class Create(Update, rename=_NAMES):
    """What a call creates."""

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
    """So many requests a second, in windows of one second; 0: as many as come."""

    limit: int
    window: int = 0
    used: int = 0

    def take(self) -> tuple[bool, dict[str, str]]:
        """Whether one more may come, and the headers that tell."""
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
    """The account: its contacts by id, by address and by ext_id, and how often each was created."""

    def __init__(self, world: World) -> None:
        self.key = world.settings.brevo_key
        self.lists = world.brevo_lists
        self.types = world.brevo_attributes
        self.longest_text = world.settings.brevo_longest_text
        self.rate = Rate(world.settings.brevo_rate)
        self.reset()

    def reset(self) -> None:
        """Forget all contacts and counts."""
        self.contacts: dict[int, Contact] = {}
        self.by_email: dict[str, Contact] = {}
        self.by_ext_id: dict[str, Contact] = {}
        self.created: Counter[str] = Counter()
        self.updated = self.deleted = self.last_id = 0

    def create(self, asked: Create) -> Answer:
        """Create a contact, or update the one that it is already."""
        email, attributes = _address(asked.email), self._fitting(asked)
        if not email and not asked.ext_id:
            raise Refused(400, "Please provide email, ext_id or SMS attribute to create a contact", "missing_parameter")
        held = self.by_ext_id.get(asked.ext_id) or self.by_email.get(email)
        if held is None:
            self.last_id += 1
            now = datetime.now(UTC)
            held = Contact(self.last_id, "", "", {}, [], now, now)
            self._write(held, email, asked, attributes)
            self.contacts[held.id] = held
            self.created[asked.ext_id or email] += 1
            return Answer(b'{"id":%d}' % held.id, 201)
        if not asked.update_enabled:
            taken = [name for name, key, there in self._identifiers(email, asked.ext_id) if key in there]
            raise _conflict("create", taken)
        return self.update(held, asked, email, attributes)

    def update(self, held: Contact, asked: Update, email: str, attributes: dict[str, Value | None]) -> Answer:
        """Change a contact, unless another one has its new address or ext_id."""
        identifiers = self._identifiers(email, asked.ext_id)
        if taken := [name for name, key, there in identifiers if key and there.get(key, held) is not held]:
            raise _conflict("update", taken)
        self._write(held, email, asked, attributes)
        held.updated += 1
        held.modified_at = datetime.now(UTC)
        self.updated += 1
        return Answer(b"", 204)

    def put(self, held: Contact, asked: Update) -> Answer:
        """Change a contact; its new address is among the attributes."""
        return self.update(held, asked, _address(str(asked.attributes.get("EMAIL", ""))), self._fitting(asked))

    def delete(self, held: Contact) -> Answer:
        """Forget a contact, but not that it was created."""
        del self.contacts[held.id]
        self.by_email.pop(held.email, None)
        self.by_ext_id.pop(held.ext_id, None)
        self.deleted += 1
        return Answer(b"", 204)

    def find(self, identifier: str, kind: str | None) -> Contact:
        """Return the contact of an identifier; without its kind, it is an id or an address."""
        kind = kind or ("contact_id" if identifier.isdecimal() else "email_id")
        if kind not in ("contact_id", "email_id", "ext_id"):
            raise Refused(400, f"Invalid identifierType: {kind}")
        if kind == "email_id":
            found = self.by_email.get(_address(identifier))
        elif kind == "ext_id":
            found = self.by_ext_id.get(identifier)
        else:
            found = self.contacts.get(int(identifier)) if identifier.isdecimal() else None
        if found is None:
            raise Refused(404, "Contact does not exist")
        return found

    def page(self, query: dict[str, str]) -> Answer:
        """A page of the contacts, the newest first."""
        limit, offset = _number(query, "limit", 50), _number(query, "offset", 0)
        if limit > 1000:
            raise Refused(400, "Limit exceeds max value", "out_of_range")
        ids = sorted(self.contacts, reverse=query.get("sort", "desc") != "asc")[offset : offset + limit]
        shown = {"contacts": [_shown(self.contacts[each]) for each in ids], "count": len(self.contacts)}
        return Answer(msgspec.json.encode(shown))

    def overview(self) -> bytes:
        """What `/sandbox/brevo` shows."""
        contacts = [
            _shown(each)
            | {"ext_id": each.ext_id, "created": self.created[each.ext_id or each.email], "updated": each.updated}
            for each in self.contacts.values()
        ]
        counts = {"created": self.created.total(), "updated": self.updated, "deleted": self.deleted}
        return msgspec.json.encode({"count": len(contacts), **counts, "contacts": contacts})

    def _identifiers(self, email: str, ext_id: str) -> list[tuple[str, str, dict[str, Contact]]]:
        return [("email", email, self.by_email), ("ext_id", ext_id, self.by_ext_id)]

    def _write(self, held: Contact, email: str, asked: Update, attributes: dict[str, Value | None]) -> None:
        if email and email != held.email:
            self.by_email.pop(held.email, None)
            self.by_email[email] = held
            held.email = email
        if asked.ext_id and asked.ext_id != held.ext_id:
            self.by_ext_id.pop(held.ext_id, None)
            self.by_ext_id[asked.ext_id] = held
            held.ext_id = asked.ext_id
        for name, value in attributes.items():
            if value is None:
                held.attributes.pop(name, None)
            else:
                held.attributes[name] = value
        if asked.list_ids or asked.unlink_list_ids:
            held.list_ids = sorted({*held.list_ids, *asked.list_ids} - {*asked.unlink_list_ids})
        if asked.email_blacklisted is not None:
            held.email_blacklisted = asked.email_blacklisted

    def _fitting(self, asked: Update) -> dict[str, Value | None]:
        """Return the attributes that the account has, with values of their types; None empties one."""
        if unknown := {*asked.list_ids, *asked.unlink_list_ids} - self.lists:
            raise Refused(400, f"Invalid list ids: {', '.join(map(str, sorted(unknown)))}")
        fitting: dict[str, Value | None] = {}
        for name, value in asked.attributes.items():
            if isinstance(value, str) and len(value) > self.longest_text:
                raise Refused(
                    400, f"Attribute {name} exceeds {self.longest_text} characters", "invalid_parameter"
                )  # fmt: skip
            kind = self.types.get(name)
            if kind is None:
                continue
            fitted = None if value == "" else _fit(kind, value)
            if fitted is not None or value == "":
                fitting[name] = fitted
        return fitting


def _fit(kind: str, value: Value) -> Value | None:
    """Return a value as an attribute of this type keeps it; None if it does not fit."""
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
    """Return an address as it is kept; an empty text is none."""
    address = text.strip().lower()
    is_long = len(address) > _LONGEST_ADDRESS or address.find("@") > _LONGEST_LOCAL_PART
    if address and (is_long or not _ADDRESS.fullmatch(address)):
        raise Refused(400, "Invalid email address")
    return address


def _number(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal():
        raise Refused(400, f"Invalid {name}: {text}")
    return int(text)


def _conflict(what: str, taken: list[str]) -> Refused:
    told = f"Unable to {what} contact, {' and '.join(taken)} is already associated with another Contact"
    return Refused(400, told, "duplicate_parameter", taken)


def _shown(contact: Contact) -> dict[str, Any]:
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


def _error(status: int, told: str) -> dict[str, Any]:
    return {"code": _CODES.get(status, "bad_request"), "message": told}


def _call(request: Request) -> tuple[str, str]:
    """Return the name of the call, and the identifier in its path."""
    path = request.scope["raw_path"].decode("latin-1").removeprefix(_PREFIX).rstrip("/")
    head, _, identifier = path.partition("/")
    if head != "contacts" or "/" in identifier:
        raise Refused(404, "Path not found")
    call = _CALLS.get(request.method) if identifier else {"POST": "create", "GET": "list"}.get(request.method)
    if call is None:
        raise Refused(405, f"{request.method} Method is not allowed on this path")
    return call, unquote(identifier)


async def _act(brevo: Brevo, call: str, identifier: str, request: Request) -> Answer:
    query = dict(request.query_params)
    try:
        if call == "create":
            return brevo.create(_CREATE.decode(await request.body()))
        if call == "list":
            return brevo.page(query)
        held = brevo.find(identifier, query.get("identifierType"))
        if call == "update":
            return brevo.put(held, _UPDATE.decode(await request.body()))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"Invalid JSON: {error}") from error
    return brevo.delete(held) if call == "delete" else Answer(msgspec.json.encode(_shown(held)))


def _check_key(brevo: Brevo, request: Request) -> None:
    given = request.headers.get("api-key")
    if brevo.key and given != brevo.key:
        raise Refused(401, "authentication not found in headers" if given is None else "Key not found")


def router(brevo: Brevo, faults: Faults) -> APIRouter:
    """Return the routes of the service, and those that show and forget its contacts."""
    routes = APIRouter()

    async def answer(request: Request) -> Response:
        fired: dict[str, Rule] = {}
        is_allowed, headers = brevo.rate.take()
        try:
            _check_key(brevo, request)
            if not is_allowed:
                raise Refused(429, "Too many requests: the rate limit is exceeded")
            call, identifier = _call(request)
            fired = faults.fire(request, SERVICE, call=call)
            said = refusal(fired, _error) or await _act(brevo, call, identifier, request)
        except Refused as refused:
            said = Answer(msgspec.json.encode(refused.body), refused.status)
        if not said.body and _SPOILING & fired.keys():  # where there is no body, none can be spoilt
            said = replace(said, status=200, body=b'{"message":"Contact updated"}')
        return await send(replace(said, headers=said.headers | headers) if headers else said, fired)

    async def overview(_request: Request) -> Response:
        return Response(brevo.overview(), media_type="application/json")

    async def forget(request: Request) -> Response:
        brevo.reset()
        return await overview(request)

    # Routes of Starlette: those of FastAPI cost more than the call itself.
    routes.add_route(f"{_PREFIX}{{rest:path}}", answer, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    routes.add_route("/sandbox/brevo", overview, methods=["GET"])
    routes.add_route("/sandbox/brevo", forget, methods=["DELETE"])
    return routes

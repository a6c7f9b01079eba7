"""Buyers and attendees as contacts of a mailing service: Brevo, https://developers.brevo.com/reference/create-contact

The Airflow connection `brevo_api` is of type `http`, with the host `https://api.brevo.com/v3` and the API key as
`api-key` in its extra. Attributes must exist in the account: Brevo ignores others, and values that do not fit the type
of theirs. Dates are sent as text.

- A contact per order and one per attendee who has an address; add-ons have no attendee of their own. The `ext_id` is
  that of the order or ticket, so that a changed address changes the contact.
- An address has one contact at Brevo. Whoever comes to the address of another one shares its contact, and `ext_id`
  stays with that one. So does the contact of the address that somebody had before; nobody is deleted or merged.
- A canceled order or ticket keeps its contact: ORDER_STATUS and TICKET_STATUS say that it is canceled.
- An empty value empties an attribute only if this object had filled it.
- The `external_object_type` of a mapping may name lists to which contacts are added: `contact in lists 4, 7`.

Limits: 10 requests a second (https://developers.brevo.com/docs/api-limits). 425 means that Brevo is still at work on
the contact.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from include.errors import (
    AccessRefused,
    ConfigurationError,
    RecoverableSyncError,
    RequestRefused,
    RetryableError,
    SyncConfigError,
    UnrecoverableSyncError,
)
from include.outbound.properties import assign_properties
from include.targets.base import OutboundSyncProvider, StaticMapping

EMAIL = "EMAIL"
MAX_TEXT_LENGTH = 10_000
"""Characters of an attribute. Brevo publishes no limit; what is longer is no attribute of a person."""
CONTACT_PAGE = "https://app.brevo.com/contact/index/{}"
TOO_EARLY = 425
_STATUSES = '{"n": "pending", "p": "paid", "e": "expired", "c": "canceled"}'
_CONFLICT = re.compile(r"duplicate_parameter|Unable to (create|update) contact")


def _entries(fields: Mapping[str, str]) -> list[dict[str, str]]:
    """Entries of a mapping, from attribute and source field; they overwrite."""
    return [
        {
            "source_field": source,
            "external_field": attribute,
            "value_map": _STATUSES if source.endswith("_status") else "",
            "overwrite": "overwrite",
        }
        for attribute, source in fields.items()
    ]


_OF_ALL = {"EVENT": "event_name", "ORDER": "event_order_code", "ORDER_STATUS": "order_status"}
_OF_BUYERS = {
    EMAIL: "email",
    "FIRSTNAME": "invoice_address_name_given_name",
    "LASTNAME": "invoice_address_name_family_name",
    "LANGUAGE": "order_locale",
    "ORDER_TOTAL": "order_total",
    "ORDER_DATE": "order_date",
}
_OF_ATTENDEES = {
    EMAIL: "attendee_email",
    "FIRSTNAME": "attendee_name_given_name",
    "LASTNAME": "attendee_name_family_name",
    "EVENT_DATE": "event_date_from",
    "TICKET": "product",
    "TICKET_ID": "ticket_id",
    "TICKET_STATUS": "ticket_status",
}
DEFAULT_MAPPINGS = (
    StaticMapping(1, "Order", "contact", "event_order_code", "ext_id", _entries(_OF_BUYERS | _OF_ALL)),
    StaticMapping(2, "OrderPosition", "contact", "ticket_id", "ext_id", _entries(_OF_ATTENDEES | _OF_ALL)),
)
"""Used until others are stored."""


class MailingList(OutboundSyncProvider):
    """Creates and updates contacts."""

    identifier = "mailing_list"
    display_name = "Mailing list (Brevo)"
    conn_id = "brevo_api"
    requests_per_second = 10.0
    concurrency = 5  # so many are needed for ten a second when an answer takes half a second
    longest_text: ClassVar[int] = MAX_TEXT_LENGTH

    @property
    def mappings(self) -> Sequence[Any]:
        """Those that are stored for this target, or else the default ones."""
        return DEFAULT_MAPPINGS if self.stored_mappings is None else self.stored_mappings

    def sync_object_with_properties(  # noqa: PLR0917
        self,
        external_id_field: str,
        id_value: str,
        properties: Sequence[tuple[str, Any, str]],
        inputs: Mapping[str, Any],
        mapping: Any,
        mapped_objects: Mapping[int, Sequence[Any]],
        previous: Any = None,
        **_: Any,
    ) -> Mapping[str, Any] | None:
        """Create or update the contact of a buyer or an attendee; None for those without an address."""
        position = inputs.get("position")
        email = next((str(value).strip() for field, value, _mode in properties if field == EMAIL and value), "")
        if not email or (position is not None and position.parent_id is not None):
            return None
        if external_id_field != "ext_id":
            raise SyncConfigError([f"Contacts are identified by ext_id, not by {external_id_field!r}"])
        self._check_lengths(properties)
        # The number of a ticket is unique in its event only.
        ext_id = id_value if position is None else f"{inputs['event'].slug}/{id_value}"
        ext_id = "" if _is_shared(email, mapped_objects) else ext_id
        values = [triple for triple in properties if triple[0] != EMAIL]
        held = self._held(email, ext_id) if any(value and mode != "overwrite" for _f, value, mode in values) else {}
        fields = assign_properties(values, held.get("attributes", {}), not held, self.list_field_joiner)
        contact: dict[str, Any] = {
            "email": email,
            "attributes": _without_empty(fields, previous),
            "listIds": [int(number) for number in re.findall(r"\d+", mapping.external_object_type)],
        }
        if held and _is_as_it_should_be(held, contact):
            action, contact_id = "nothing_to_do", held["id"]
        else:
            action, contact_id, ext_id = self._write(contact, ext_id)
        if contact_id is None:
            contact_id = _known_id(previous, email) or self._held(email, ext_id).get("id")
        return {
            "external_link_href": CONTACT_PAGE.format(contact_id) if contact_id else None,
            "external_link_display_name": f"contact {contact_id}",
            "action": action,
            "contact_id": contact_id,
            "address": _digest(email),
            "ext_id": ext_id,
            "filled": sorted(name for name, value in fields.items() if not _is_nothing(value)),
        }

    def _held(self, email: str, ext_id: str) -> dict[str, Any]:
        """The contact as Brevo has it, of the ext_id or else of the address; empty if there is none."""
        for identifier, kind in ((ext_id, "ext_id"), (email, "email_id")):
            if identifier:
                path = f"contacts/{quote(identifier, safe='')}"
                try:
                    return dict(self._ask("GET", path, {"identifierType": kind}).value)
                except RequestRefused as error:
                    if error.status != 404:
                        raise _refused(error, email) from error
        return {}

    def _write(self, contact: dict[str, Any], ext_id: str) -> tuple[str, int | None, str]:
        """Create or update it; returns what was done, its id if Brevo says it, and the ext_id unless it is shared."""
        body = {name: value for name, value in (contact | {"ext_id": ext_id, "updateEnabled": True}).items() if value}
        try:
            answer = self._ask("POST", "contacts", body=body)
        except RequestRefused as error:
            if not (ext_id and _CONFLICT.search(error.message)):
                raise _refused(error, contact["email"]) from error
            return self._write(contact, "")
        return "create" if answer.status == 201 else "update", answer.value.get("id"), ext_id

    def _ask(
        self, method: str, path: str, params: Mapping[str, str] | None = None, body: dict[str, Any] | None = None
    ) -> Any:
        """Ask Brevo, and tell by the error whether trying again helps; RequestRefused is left to the caller."""
        try:
            return self.connector.request(
                method,
                path,
                params,
                body=msgspec.json.encode(body) if body else None,
                headers={"Content-Type": "application/json"},
                decode=_decode,
            )
        except RetryableError as error:
            told = ["Brevo cannot take contacts right now"]
            raise RecoverableSyncError(told, str(error), retry_after=error.retry_after) from error
        except (AccessRefused, ConfigurationError) as error:
            raise SyncConfigError([f"Check the connection {self.conn_id}: {error}"]) from error
        except RequestRefused as error:
            if error.status == TOO_EARLY:
                raise RecoverableSyncError(["Brevo is still at work on this contact"], str(error)) from error
            raise

    def _check_lengths(self, properties: Sequence[tuple[str, Any, str]]) -> None:
        for name, value, _mode in properties:
            if isinstance(value, str) and len(value) > self.longest_text:
                told = f"{name} has {len(value):,} characters, {self.longest_text:,} are allowed: {_shortened(value)}"
                raise UnrecoverableSyncError([told])


def _decode(body: bytes) -> dict[str, Any]:
    return msgspec.json.decode(body, type=dict[str, Any]) if body else {}


def _refused(error: RequestRefused, email: str) -> UnrecoverableSyncError:
    """What to tell a person about a contact that Brevo refuses."""
    if error.status in {404, 405}:
        return SyncConfigError([f"Check the address in the connection {MailingList.conn_id}: {error}"])
    said = re.search(r'"message": ?"([^"]*)', error.message)
    reason = said[1] if said else f"status {error.status}"
    told = f"Brevo refuses the contact with the e-mail address {_shortened(email)}: {reason}"
    is_setting = re.search(r"\blists?\b", reason, re.IGNORECASE)
    return (SyncConfigError if is_setting else UnrecoverableSyncError)([told], str(error))


def _is_nothing(value: Any) -> bool:
    return value is None or value == ""


def _is_shared(email: str, mapped_objects: Mapping[int, Sequence[Any]]) -> bool:
    """Whether somebody else of the order has the address."""
    others = [each for results in mapped_objects.values() for each in results if each]
    return _digest(email) in [each.get("address") for each in others]


def _without_empty(fields: Mapping[str, Any], previous: Any) -> dict[str, Any]:
    """The values to send; of empty ones those that were not when they were last sent."""
    filled = (previous.get("filled") or ()) if previous else ()
    values = {name: "" if value is None else value for name, value in fields.items()}
    return {name: value for name, value in values.items() if value != "" or name in filled}


def _is_as_it_should_be(held: Mapping[str, Any], contact: Mapping[str, Any]) -> bool:
    attributes = held.get("attributes", {})
    return (
        str(held.get("email")).lower() == contact["email"].lower()
        and all(attributes.get(name, "") == value for name, value in contact["attributes"].items())
        and set(contact["listIds"]) <= set(held.get("listIds", ()))
    )


def _known_id(previous: Any, email: str) -> Any:
    """The id of the contact that had this address the last time."""
    is_same = previous and previous.get("address") == _digest(email)
    return previous.get("contact_id") if is_same else None


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}…")


def _digest(email: str) -> str:
    """An address can be told again by it, and not be read."""
    return hashlib.blake2b(email.lower().encode(errors="replace"), digest_size=8).hexdigest()

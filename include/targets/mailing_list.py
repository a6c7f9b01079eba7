"""Buyers and attendees as contacts of a mailing service: Brevo, https://developers.brevo.com/reference/create-contact

The Airflow connection `brevo_api` is of type `http`, with the host `https://api.brevo.com/v3` and the API key as
`api-key` in its extra. The attributes must exist in the Brevo account: Brevo ignores unknown ones, and values that do
not fit their type. Dates are sent as text.

- There is one contact per order, and one per attendee with an address; add-ons have no attendee of their own. The
  contact's `ext_id` is that of the order or ticket, so that a changed address updates the contact.
- Brevo has one contact per address. If an address changes to one that has a contact, that contact is shared and keeps
  its `ext_id`. No contact is deleted or merged.
- A canceled order or ticket keeps its contact; ORDER_STATUS and TICKET_STATUS say that it is canceled.
- An empty value clears an attribute only if this object filled it before.
- The `external_object_type` of a mapping may name lists that its contacts are added to: `contact in lists 4, 7`.

Rate limit: 10 requests a second (https://developers.brevo.com/docs/api-limits). Status 425 means that Brevo is still
processing the contact.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any
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
from include.models.orders import Inputs, Value
from include.models.outbound import StoredResult
from include.targets.base import OutboundSyncProvider, Property, StaticMapping
from include.targets.mapping import ObjectMapping
from include.targets.overwrite import assign_properties, is_empty
from include.texts import shortened

EMAIL = "EMAIL"
MAX_TEXT_LENGTH = 10_000
"""Characters per attribute. Brevo publishes no limit, but longer values are not data about a person."""
CONTACT_PAGE = "https://app.brevo.com/contact/index/{}"
TOO_EARLY = 425
_STATUSES = '{"n": "pending", "p": "paid", "e": "expired", "c": "canceled"}'
_CONFLICT = re.compile(r"duplicate_parameter|Unable to (create|update) contact")


def _entries(fields: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the entries of a mapping that overwrites each attribute with a source field."""
    return [
        {
            "source_field": source,
            "external_field": attribute,
            "value_map": _STATUSES if source.endswith("_status") else "",
            "overwrite": "overwrite",
        }
        for attribute, source in fields.items()
    ]


_COMMON = {"EVENT": "event_name", "ORDER": "event_order_code", "ORDER_STATUS": "order_status"}
_BUYER = {
    EMAIL: "email",
    "FIRSTNAME": "invoice_address_name_given_name",
    "LASTNAME": "invoice_address_name_family_name",
    "LANGUAGE": "order_locale",
    "ORDER_TOTAL": "order_total",
    "ORDER_DATE": "order_date",
}
_ATTENDEE = {
    EMAIL: "attendee_email",
    "FIRSTNAME": "attendee_name_given_name",
    "LASTNAME": "attendee_name_family_name",
    "EVENT_DATE": "event_date_from",
    "TICKET": "product",
    "TICKET_ID": "ticket_id",
    "TICKET_STATUS": "ticket_status",
}
DEFAULT_MAPPINGS = (
    StaticMapping(1, "Order", "contact", "event_order_code", "ext_id", _entries(_BUYER | _COMMON)),
    StaticMapping(2, "OrderPosition", "contact", "ticket_id", "ext_id", _entries(_ATTENDEE | _COMMON)),
)
"""Used as long as no mappings are stored."""


class MailingList(OutboundSyncProvider):
    """Creates and updates contacts."""

    identifier = "mailing_list"
    display_name = "Mailing list (Brevo)"
    conn_id = "brevo_api"
    requests_per_second = 10.0
    concurrency = 5  # enough for 10 requests a second at half a second per response

    @property
    def mappings(self) -> Sequence[ObjectMapping]:
        """The stored mappings of this target, or else the default ones."""
        return DEFAULT_MAPPINGS if self.stored_mappings is None else self.stored_mappings

    def sync_object_with_properties(  # noqa: PLR0917
        self,
        external_id_field: str,
        id_value: str,
        properties: Sequence[Property],
        inputs: Inputs,
        mapping: ObjectMapping,
        mapped_objects: Mapping[int, Sequence[StoredResult | None]],
        previous: StoredResult | None = None,
        **_: object,
    ) -> Mapping[str, object] | None:
        """Create or update the contact of a buyer or an attendee; skip those without an address."""
        position = inputs.get("position")
        email = next((str(value).strip() for field, value, _mode in properties if field == EMAIL and value), "")
        if not email or (position is not None and position.parent_id is not None):
            return None
        if external_id_field != "ext_id":
            raise SyncConfigError([f"Contacts are identified by ext_id, not by {external_id_field!r}"])
        _check_lengths(properties)
        # The number of a ticket is only unique within its event.
        ext_id = id_value if position is None else f"{inputs['event'].slug}/{id_value}"
        ext_id = "" if _is_shared(email, mapped_objects) else ext_id
        values = [triple for triple in properties if triple[0] != EMAIL]
        # Only modes other than overwrite need to know what Brevo has, which costs a request.
        needs_stored = any(value and mode != "overwrite" for _field, value, mode in values)
        stored = self._find_contact(email, ext_id) if needs_stored else {}
        fields = assign_properties(values, stored.get("attributes", {}), not stored, self.list_field_joiner)
        contact: dict[str, Any] = {
            "email": email,
            "attributes": _without_empty(fields, previous),
            "listIds": [int(number) for number in re.findall(r"\d+", mapping.external_object_type)],
        }
        if stored and _is_up_to_date(stored, contact):
            action, contact_id = "nothing_to_do", stored["id"]
        else:
            action, contact_id, ext_id = self._write(contact, ext_id)
        if contact_id is None:
            contact_id = _known_id(previous, email) or self._find_contact(email, ext_id).get("id")
        return {
            "external_link_href": CONTACT_PAGE.format(contact_id) if contact_id else None,
            "external_link_display_name": f"contact {contact_id}",
            "action": action,
            "contact_id": contact_id,
            "address": _digest(email),
            "ext_id": ext_id,
            "filled": sorted(name for name, value in fields.items() if not is_empty(value)),
        }

    def _find_contact(self, email: str, ext_id: str) -> dict[str, Any]:
        """Return Brevo's contact with this ext_id, or else with this address; empty if there is none."""
        for identifier, kind in ((ext_id, "ext_id"), (email, "email_id")):
            if identifier:
                path = f"contacts/{quote(identifier, safe='')}"
                try:
                    return self._request("GET", path, {"identifierType": kind})[1]
                except RequestRefused as error:
                    if error.status != 404:
                        raise _refused(error, email) from error
        return {}

    def _write(self, contact: dict[str, Any], ext_id: str) -> tuple[str, int | None, str]:
        """Create or update a contact. Returns the action, the id if Brevo returns it, and the ext_id unless shared."""
        body = {name: value for name, value in (contact | {"ext_id": ext_id, "updateEnabled": True}).items() if value}
        try:
            status, response = self._request("POST", "contacts", body=body)
        except RequestRefused as error:
            if not (ext_id and _CONFLICT.search(error.message)):
                raise _refused(error, contact["email"]) from error
            # Another contact has the address or the ext_id: update the one with the address.
            return self._write(contact, "")
        return "create" if status == 201 else "update", response.get("id"), ext_id

    def _request(
        self, method: str, path: str, params: Mapping[str, str] | None = None, body: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Send a request; returns status and body. Raises RequestRefused for the caller to judge."""
        try:
            response = self.connector.request(
                method,
                path,
                params,
                body=msgspec.json.encode(body) if body else None,
                headers={"Content-Type": "application/json"},
                decode=_decode,
            )
        except RetryableError as error:
            message = ["Brevo cannot process contacts right now"]
            raise RecoverableSyncError(message, str(error), retry_after=error.retry_after) from error
        except (AccessRefused, ConfigurationError) as error:
            raise SyncConfigError([f"Check the connection {self.conn_id}: {error}"]) from error
        except RequestRefused as error:
            if error.status == TOO_EARLY:
                raise RecoverableSyncError(["Brevo is still processing this contact"], str(error)) from error
            raise
        return response.status, response.value


def _check_lengths(properties: Sequence[Property]) -> None:
    for name, value, _mode in properties:
        if isinstance(value, str) and len(value) > MAX_TEXT_LENGTH:
            allowed = f"the maximum is {MAX_TEXT_LENGTH:,}: {shortened(value, 100)!r}"
            raise UnrecoverableSyncError([f"{name} has {len(value):,} characters, {allowed}"])


def _decode(body: bytes) -> dict[str, Any]:
    return msgspec.json.decode(body, type=dict[str, Any]) if body else {}


def _refused(error: RequestRefused, email: str) -> UnrecoverableSyncError:
    """Return the error for a contact that Brevo refuses; a SyncConfigError if the cause is a setting."""
    if error.status in {404, 405}:
        return SyncConfigError([f"Check the address in the connection {MailingList.conn_id}: {error}"])
    message = re.search(r'"message": ?"([^"]*)', error.message)
    reason = message[1] if message else f"status {error.status}"
    is_setting = re.search(r"\blists?\b", reason, re.IGNORECASE)
    return (SyncConfigError if is_setting else UnrecoverableSyncError)(
        [f"Brevo refused the contact with the e-mail address {shortened(email, 100)!r}: {reason}"], str(error)
    )


def _is_shared(email: str, mapped_objects: Mapping[int, Sequence[StoredResult | None]]) -> bool:
    """Whether another object of the order has the same address."""
    others = [each for results in mapped_objects.values() for each in results if each]
    return _digest(email) in [each.get("address") for each in others]


def _without_empty(fields: Mapping[str, Value], previous: StoredResult | None) -> dict[str, Value]:
    """Return the values to send: empty ones only if they clear an attribute that was filled the last time."""
    filled = (previous.get("filled") or ()) if previous else ()
    values = {name: "" if value is None else value for name, value in fields.items()}
    return {name: value for name, value in values.items() if value != "" or name in filled}


def _is_up_to_date(stored: Mapping[str, Any], contact: Mapping[str, Any]) -> bool:
    """Whether Brevo's contact already equals what would be sent."""
    attributes = stored.get("attributes", {})
    return (
        str(stored.get("email")).lower() == contact["email"].lower()
        and all(attributes.get(name, "") == value for name, value in contact["attributes"].items())
        and set(contact["listIds"]) <= set(stored.get("listIds", ()))
    )


def _known_id(previous: StoredResult | None, email: str) -> int | None:
    """Return the id of the contact, if it had this address the last time too."""
    if previous is None or previous.get("address") != _digest(email):
        return None
    contact_id: int | None = previous.get("contact_id")
    return contact_id


def _digest(email: str) -> str:
    """Return a one-way digest that identifies an address without revealing it."""
    return hashlib.blake2b(email.lower().encode(errors="replace"), digest_size=8).hexdigest()

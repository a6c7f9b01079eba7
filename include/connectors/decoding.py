"""Typed decoding of a page of records, in which a bad record does not affect the others.

A body is decoded in one typed pass. Only if that fails are the records decoded one by one: a record that does not fit
its type becomes a `Rejected` in its place. A body that is not a page at all raises `msgspec.DecodeError`.

The record type declares the types and rules of its fields (https://jcristharif.com/msgspec/constraints.html);
`include/providers/stock_api.py` is an example.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from include.errors import RejectRecord

E = TypeVar("E", bound=msgspec.Struct)


class Rejected(msgspec.Struct, frozen=True):
    """A record that cannot be used: its bytes as received, and the reason."""

    raw: bytes
    reason: str


class PageDecoder(Generic[E]):
    """Called with the bytes of a page, returns an `envelope` whose `records_field` lists `record`s and `Rejected`s.

    `empty` is the page that an empty body stands for, for services that send nothing instead of an empty list; without
    it an empty body cannot be decoded. `within` names the member of the body that contains the envelope, for services
    that wrap it.
    """

    def __init__(
        self,
        envelope: type[E],
        record: type[Any],
        records_field: str,
        *,
        empty: E | None = None,
        within: str | None = None,
    ) -> None:
        fields = {field.name: field for field in msgspec.structs.fields(envelope)}
        if records_field not in fields:
            raise ValueError(f"{envelope.__name__} has no field {records_field!r}, only {', '.join(fields)}")
        self._field = records_field
        self._empty = empty
        self._page = _decoder(_with_records(envelope, fields[records_field], record), within)
        self._split_page = _decoder(_with_records(envelope, fields[records_field], msgspec.Raw), within)
        self._record: msgspec.json.Decoder[Any] = msgspec.json.Decoder(record)

    def __call__(self, body: bytes) -> E:
        """Decode one page."""
        if self._empty is not None and not body:
            return self._empty
        try:
            return self._page(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        page, mark = self._split(body)
        records = [self._one(_unmask(bytes(raw), mark)) for raw in getattr(page, self._field)]
        msgspec.structs.force_setattr(page, self._field, records)
        return page

    def record(self, raw: bytes) -> Any:
        """Decode one record by itself, for example the stored payload of a rejected one.

        Raises:
            RejectRecord: it does not fit its type.
        """
        record = self._one(raw)
        if isinstance(record, Rejected):
            raise RejectRecord(record.reason, payload=raw)
        return record

    def _split(self, body: bytes) -> tuple[E, bytes]:
        try:
            return self._split_page(body), b""
        except (msgspec.DecodeError, UnicodeDecodeError):
            masked, mark = _mask(body)
        return self._split_page(masked), mark

    def _one(self, raw: bytes) -> Any:
        try:
            return self._record.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Rejected(raw, _reason(raw, error))


def raw_field(raw: bytes, name: str) -> str | int | None:
    """Read one string or integer field of a record that cannot be decoded as a whole; None if it cannot be read."""
    try:
        masked, mark = _mask(raw)
        value = msgspec.json.decode(masked, type=dict[str, msgspec.Raw]).get(name)
        return None if value is None else msgspec.json.decode(_unmask(bytes(value), mark), type=str | int | None)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _decoder(envelope: type[E], within: str | None) -> Callable[[bytes], E]:
    if within is None:
        return msgspec.json.Decoder(envelope).decode
    body: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
        msgspec.defstruct("Body", [("envelope", envelope)], rename={"envelope": within})
    )

    return lambda text: body.decode(text).envelope


def _with_records(envelope: type[E], field: msgspec.structs.FieldInfo, record: Any) -> type[E]:
    """Return a subclass of `envelope` whose field lists `record`s; its other rules stay."""
    name, default = field.encode_name, field.default
    if field.default_factory is not msgspec.NODEFAULT:
        described = msgspec.field(name=name, default_factory=field.default_factory)
    else:
        described = msgspec.field(name=name, default=default)
    fields = [(field.name, list[record], described)]
    variant: type[E] = msgspec.defstruct(envelope.__name__, fields, bases=(envelope,), kw_only=True)  # type: ignore[assignment]
    return variant


# A flaw makes JSON unreadable inside a string: half a surrogate pair, an invalid escape, a raw control character. The
# decoder cannot even skip a flaw, so one of them would make the whole page unreadable. To split the page into records,
# each flaw is replaced by a mark that the decoder can skip (two bytes that are not UTF-8 and occur nowhere else in the
# page), and restored afterwards. Valid surrogate pairs are masked as well, which does no harm.
_MARKS = [bytes([0xFF, second]) for second in range(0x80, 0x100)]
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_ESCAPE_OR_FLAW = re.compile(
    rb"(?P<good>"
    rb"\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}"
    rb'|\\["\\/bfnrt])'
    rb"|[\\\x00-\x1f]"
)


def _mask(body: bytes) -> tuple[bytes, bytes]:
    """Return `body` with its flaws masked, and the mark used; b"" if there is no flaw or no unused mark."""
    mark = next((mark for mark in _MARKS if mark not in body), b"")
    if not mark:
        return body, b""

    def in_string(string: re.Match[bytes]) -> bytes:
        return _ESCAPE_OR_FLAW.sub(lambda m: m[0] if m["good"] else mark + bytes([m[0][0] ^ 0x80]), string[0])

    masked = _STRING.sub(in_string, body)
    return (masked, mark) if masked != body else (body, b"")


def _unmask(raw: bytes, mark: bytes) -> bytes:
    if not mark or mark not in raw:
        return raw
    return re.sub(re.escape(mark) + rb"(.)", lambda match: bytes([match[1][0] ^ 0x80]), raw, flags=re.DOTALL)


_AT = re.compile(r"^(?P<what>.*?) - at `\$\.?(?P<path>.+)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$")


def _reason(raw: bytes, error: Exception) -> str:
    if not isinstance(error, msgspec.ValidationError):
        return _unreadable_field(raw) or str(error)
    what, path = str(error), ""
    if found := _AT.match(what):
        what, path = found["what"], found["path"]
    if missing := _MISSING.match(what):
        what, path = "required, but missing", f"{path}.{missing['name']}" if path else missing["name"]
    return f"{path}: {what}" if path else what


def _unreadable_field(raw: bytes) -> str:
    """Return the first field whose text cannot be read and the reason, or ""."""
    try:
        masked, mark = _mask(raw)
        fields = msgspec.json.decode(masked, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    for name, value in fields.items():
        try:
            msgspec.json.decode(_unmask(bytes(value), mark))
        except UnicodeDecodeError:
            return f"{name}: text that is not UTF-8"
        except msgspec.DecodeError as error:
            if mark and mark in bytes(value):
                return f"{name}: text with a lone surrogate, a control character or an unknown escape"
            return f"{name}: {error}"
    return ""

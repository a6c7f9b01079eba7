from __future__ import annotations

import json
from typing import Annotated

import msgspec
import pytest

from include.connectors.decoding import PageDecoder, Rejected, raw_field


class Stock(msgspec.Struct):
    ref: Annotated[str, msgspec.Meta(min_length=1)]
    available: Annotated[int, msgspec.Meta(ge=0)]
    title: str = ""
    extra: dict[str, str] = {}


class Listing(msgspec.Struct, rename="camel", frozen=True):
    page_rows: list[Stock | Rejected]
    grand_total: int | None = None


class Renamed(msgspec.Struct):
    rows: list[Stock | Rejected] = msgspec.field(name="stocks", default_factory=list)


decode = PageDecoder(Listing, Stock, "page_rows", empty=Listing([]))
GOOD = b'{"ref":"a","available":1}'


def page(*rows: bytes) -> bytes:
    return b'{"grandTotal":9,\n "other":[1,"\\n"], "pageRows":[' + b" ,\n ".join(rows) + b"]}"


def test_good_page():
    listing = decode(page(GOOD, b'{"available":0,"ref":"b","unknown":[null]}'))
    assert listing.page_rows == [Stock("a", 1), Stock("b", 0)]
    assert listing.grand_total == 9
    assert isinstance(listing, Listing)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"available":1}', "ref: required, but missing"),
        (b'{"ref":"b"}', "available: required, but missing"),
        (b'{"ref":"b","available":"2"}', "available: Expected `int`, got `str`"),
        (b'{"ref":"b","available":null}', "available: Expected `int`, got `null`"),
        (b'{"ref":"b","available":1.5}', "available: Expected `int`, got `float`"),
        (b'{"ref":"b","available":1e400}', "available: Number out of range"),
        (b'{"ref":"b","available":-1}', "available: Expected `int` >= 0"),
        (b'{"ref":"","available":1}', "ref: Expected `str` of length >= 1"),
        (b'{"ref":"b","available":1,"extra":{"x":5}}', "extra[...]: Expected `str`, got `int`"),
        (b"7", "Expected `object`, got `int`"),
        (b"null", "Expected `object`, got `null`"),
        (b'[{"ref":"b","available":1}]', "Expected `object`, got `array`"),
        (b'{"ref":"b","available":1,"title":"\xff"}', "title: text that is not UTF-8"),
        (b'{"ref":"\xc3","available":1}', "ref: text that is not UTF-8"),
        (b'{"ref":"b","available":1,"title":"\xed\xa0\x80"}', "title: text that is not UTF-8"),
        (b'{"ref":"b","title":"\xff\xfe\xff","available":1}', "title: text that is not UTF-8"),
    ],
)
def test_bad_record_costs_only_itself(raw, reason):
    listing = decode(page(GOOD, raw, GOOD))
    assert listing.page_rows == [Stock("a", 1), Rejected(raw, reason), Stock("a", 1)]
    assert listing.grand_total == 9


@pytest.mark.parametrize(
    "text",
    [
        b"\\ud800",
        b"\\uDC00",
        b"\\ud800\\u0041",
        b"\\ud800\\ud800\\udc00",
        b"\\\\\\ud83d",
        b"a\nb",
        b"tab\there",
        b"\x00",
        b"\\x41",
        b"\\u12g4",
        b"\\ud83d\\ude00 then \\udfff",
    ],
)
def test_flaw_inside_a_text_costs_only_its_record(text):
    raw = b'{"ref":"b","available":1,"title":"' + text + b'"}'
    good = b'{"ref":"\\\\ud800 \\ud83d\\ude00 \\" \\u00e9","available":3,\n\t"title":"\xc3\xa9"}'
    listing = decode(page(good, raw, good))
    reason = "title: text with a lone surrogate, a control character or an unknown escape"
    kept = Stock('\\ud800 \U0001f600 " é', 3, "é")
    assert listing.page_rows == [kept, Rejected(raw, reason), kept]


def test_bytes_that_look_like_a_mark_are_left_alone():
    """Every two bytes that could serve as a mark, next to a flaw: no text may be mistaken for a mark."""
    every = b"".join(bytes([0xFF, second]) for second in range(0x80, 0x100))
    for marks in (b"\xff\x80", every[:-2]):
        raw = b'{"ref":"b","available":1,"title":"' + marks + b'\xdcn"}'
        flawed = b'{"ref":"\\ud800","available":1}'
        listing = decode(page(raw, flawed))
        assert listing.page_rows[0] == Rejected(raw, "title: text that is not UTF-8")
        assert listing.page_rows[1].raw == flawed
    with pytest.raises(msgspec.DecodeError):
        decode(page(b'{"ref":"' + every + b'"}', b'{"ref":"\\ud800"}'))


def test_flaw_in_a_name_is_told_without_one():
    raw = b'{"ref":"b","available":1,"ti\\ud800tle":"x"}'
    (rejected,) = decode(page(raw)).page_rows
    assert rejected.raw == raw
    assert "malformed" in rejected.reason


def test_every_record_may_be_bad_and_keeps_only_its_own_bytes():
    listing = decode(page(*[b'{"ref":5}'] * 3))
    assert [(type(row), type(row.raw), len(row.raw)) for row in listing.page_rows] == [(Rejected, bytes, 9)] * 3


@pytest.mark.parametrize(
    "body",
    [
        page(GOOD)[:-1],
        page(GOOD)[:-10],
        page(b'{"ref":"b","available":1,"title":"\\ud800"}')[:-3],
        page(GOOD) + b"x",
        b"<html><p>Sorry \\</p></html>",
        b"[]",
        b"null",
        b'{"grandTotal":1}',
        b'{"pageRows":null}',
        b'{"pageRows":{"a":1}}',
        b'{"pageRows":[],"grandTotal":"many"}',
        b'{"pageRows":[NaN]}',
        b" ",
    ],
)
def test_what_is_no_page_raises(body):
    with pytest.raises(msgspec.DecodeError):
        decode(body)


def test_empty_body_is_what_it_was_said_to_be():
    assert decode(b"") == Listing([])
    with pytest.raises(msgspec.DecodeError):
        PageDecoder(Listing, Stock, "page_rows")(b"")


def test_field_with_a_name_and_a_default_of_its_own():
    decode = PageDecoder(Renamed, Stock, "rows")
    assert decode(b"{}").rows == []
    assert decode(b'{"stocks":[' + GOOD + b",1]}").rows == [
        Stock("a", 1),
        Rejected(b"1", "Expected `object`, got `int`"),
    ]


def test_records_need_not_be_structs():
    class Names(msgspec.Struct):
        names: list[str | Rejected]

    assert PageDecoder(Names, str, "names")(b'{"names":["a",1]}').names == [
        "a",
        Rejected(b"1", "Expected `str`, got `int`"),
    ]


def test_field_must_exist():
    with pytest.raises(ValueError, match=r"no field 'stocks', only page_rows, grand_total"):
        PageDecoder(Listing, Stock, "stocks")


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (b'{"ref":"b","available":-1}', "b"),
        (b'{"available":"\xff","ref":"b"}', "b"),
        (b'{"available":"\\ud800\n","ref":"b\\u00e9"}', "bé"),
        (b'{"ref":"\\ud83d\\ude00","available":"\\ud800"}', "\U0001f600"),
        (b'{"ref":17}', 17),
        (b'{"ref":null}', None),
        (b'{"ref":1.5}', None),
        (b'{"ref":["b"]}', None),
        (b'{"ref":"\xff"}', None),
        (b'{"ref":"\\ud800"}', None),
        (b'{"other":"b"}', None),
        (b'"ref"', None),
    ],
)
def test_raw_field(raw, key):
    assert raw_field(raw, "ref") == key


def test_agrees_with_the_standard_library_on_many_texts():
    """Whatever json can read as text, and msgspec too, must come through the slow path unchanged."""
    texts = ["", "é", "\\", '"', "\\u0041", "\U0001f600", "a\nb\t\x00", "\\ud800", "/", "\u2028", "\ufffe"]
    rows = [
        json.dumps({"ref": "r", "available": 1, "title": text}, ensure_ascii=flag) for text in texts for flag in (0, 1)
    ]
    listing = decode(page(b'{"ref":"\\ud800"}', *(row.encode() for row in rows)))
    assert [row.title for row in listing.page_rows[1:]] == [text for text in texts for _ in (0, 1)]

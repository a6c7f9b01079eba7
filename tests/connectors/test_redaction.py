from __future__ import annotations

import logging

import pytest

from include.connectors.redaction import Redactor, looks_secret, redact, redact_log_record


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pa:ss@host/x", "https://***@host/x"),
        ("postgres://user@host:1/x?a=b@c", "postgres://***@host:1/x?a=b@c"),
        ("/x?limit=5&token=abc&after=3", "/x?limit=5&token=***&after=3"),
        ("/x?access_token=a,b;c)d&x=1", "/x?access_token=***&x=1"),
        ("/x?api%5Fkey=abc", "/x?api%5Fkey=***"),
        ("/x?%74oken=abc", "/x?%74oken=***"),
        ("/x?sig=abc&sv=1", "/x?sig=***&sv=1"),
        ("Authorization: Basic dXNlcjpwYXNz and more", "Authorization: *** and more"),
        ("{'X-Api-Key': 'abc d', 'Accept': '*/*'}", "{'X-Api-Key': ***, 'Accept': '*/*'}"),
        ("{'Authorization': b'Basic abc'}", "{'Authorization': ***}"),
        ('{"password": "a\\"b", "user": "c"}', '{"password": ***, "user": "c"}'),
        ("Set-Cookie: a=b", "Set-Cookie: ***"),
        ("KeyError: 'ref'", "KeyError: 'ref'"),
        ("design=3&monday=4&author=Bo", "design=3&monday=4&author=Bo"),
    ],
)
def test_names_are_enough(text, shown):
    assert redact(text) == shown


SECRET = [
    "token",
    "X-Api-Key",
    "apiKey",
    "client_secret",
    "PASSWORD",
    "Authorization",
    "sig",
    "X-Amz-Signature",
    "auth",
]
OTHER = ["after", "limit", "design", "author", "modifiedSince", "keyword", "Content-Type"]


@pytest.mark.parametrize("name", SECRET + OTHER)
def test_secret_names(name):
    assert looks_secret(name) is (name in SECRET)


@pytest.mark.parametrize("form", ['p&"/ é', "p%26%22%2F%20%C3%A9", "p%26%22%2F+%C3%A9", 'p&\\"/ \\u00e9'])
def test_known_secrets_are_hidden_in_every_form(form):
    assert Redactor(['p&"/ é', "other"])(f"before {form} after") == "before *** after"


def test_secret_that_begins_with_another_is_hidden_whole():
    assert Redactor(["abcd", "abcdef"])("abcdef") == "***"


def test_short_secret_does_not_spoil_names():
    assert Redactor(["k"])("?token=abc k") == "?to***en=*** ***"


def test_empty_secrets_hide_nothing():
    assert Redactor(["", ""])("nothing here") == "nothing here"


def test_any_object_is_shown_as_text():
    assert redact(ValueError("token=abc")) == "token=***"


def test_log_records_are_redacted_and_kept():
    record = logging.LogRecord("x", logging.DEBUG, "", 1, "%s %d %s", ("/x?token=abc", 200, None), None)
    assert redact_log_record(record)
    assert record.getMessage() == "/x?token=*** 200 None"

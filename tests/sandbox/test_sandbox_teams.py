"""The stand-in for a workflow of Teams takes what the real one takes, and shows it."""

import time

import pytest
import requests

from sandbox.testing import serving
from sandbox.world import Settings, World

CARD = "application/vnd.microsoft.card.adaptive"


@pytest.fixture(scope="module")
def served():
    with serving(World(Settings(books=10, offers=0, teams_signature="let-me-in"))) as url:
        yield url


@pytest.fixture
def url(served):
    assert requests.post(f"{served}/sandbox/reset", timeout=10).status_code == 200
    return served


@pytest.fixture
def post(url):
    def post(message, prefix="", **query):
        asked = {"api-version": "2016-06-01", "sp": "/triggers/manual/run", "sv": "1.0", "sig": "let-me-in"} | query
        asked = {name: value for name, value in asked.items() if value is not None}
        path = f"{url}{prefix}/workflows/abc/triggers/manual/paths/invoke"
        body = {"data": message} if isinstance(message, bytes) else {"json": message}
        return requests.post(path, params=asked, timeout=10, **body)

    return post


@pytest.fixture
def cards(url):
    return lambda: requests.get(f"{url}/sandbox/teams", timeout=10).json()


def message(*texts, **more):
    body = [{"type": "TextBlock", "text": text} for text in texts]
    card = {"type": "AdaptiveCard", "version": "1.4", "body": body} | more
    return {"type": "message", "attachments": [{"contentType": CARD, "contentUrl": None, "content": card}]}


def test_a_card_is_accepted_and_shown(post, cards):
    before = time.time()
    facts = {"type": "FactSet", "facts": [{"title": "Records", "value": "12"}]}
    sent = message("Rebuilt", "All is well.")
    sent["attachments"][0]["content"]["body"].append({"type": "Container", "items": [facts]})
    answer = post(sent)
    assert (answer.status_code, answer.content) == (202, b"")
    (kept,) = cards()
    assert (kept["title"], kept["text"]) == ("Rebuilt", "All is well.\nRecords: 12")
    assert kept["card"] == sent["attachments"][0]["content"]
    assert before <= kept["at"] <= time.time()


def test_the_newer_form_of_the_address(post, cards):
    assert post(message("a"), prefix="/powerautomate/automations/direct").status_code == 202
    assert len(cards()) == 1


def test_cards_come_in_their_order_and_are_forgotten(post, cards, url):
    for text in "abc":
        post(message(text))
    assert [kept["title"] for kept in cards()] == ["a", "b", "c"]
    assert requests.delete(f"{url}/sandbox/teams", timeout=10).json() == []
    assert cards() == []
    post(message("d"))
    requests.post(f"{url}/sandbox/reset", timeout=10)
    assert cards() == []


@pytest.mark.parametrize("sig", ["wrong", "", None])
def test_a_wrong_signature(post, cards, sig):
    answer = post(message("a"), sig=sig)
    assert answer.status_code == 401
    assert answer.json()["error"]["message"]
    assert cards() == []


def test_a_missing_version(post):
    assert post(message("a"), **{"api-version": None}).status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"hello",
        b"[" * 20_000,
        [],
        {},
        {"text": "hello"},
        {"@type": "MessageCard", "summary": "a", "text": "b"},
        message("a") | {"type": "text"},
        message("a") | {"attachments": []},
        message("a") | {"attachments": ["a"]},
        message("a", type="HeroCard"),
        message("a", version=None),
        message("a", body="b"),
        {"type": "message", "attachments": [{"content": message("a")["attachments"][0]["content"]}]},
        {"type": "message", "attachments": [*message("a")["attachments"], {"contentType": CARD}]},
    ],
)
def test_what_is_no_message_of_adaptive_cards(post, cards, wrong):
    answer = post(wrong)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert cards() == []


def test_a_message_of_28_kilobytes_and_one_byte_more(post, cards):
    room = 28 * 1024 - len(requests.Request("POST", "http://x", json=message("")).prepare().body)
    assert post(message("x" * room)).status_code == 202
    assert post(message("x" * (room + 1))).status_code == 413
    assert len(cards()) == 1


def test_the_page_for_people(post, url):
    def page():
        return requests.get(f"{url}/sandbox/teams.html", timeout=10)

    assert "No cards yet" in page().text
    actions = [
        {"type": "Action.OpenUrl", "title": "The run", "url": "https://example.org/?a=1&b=2"},
        {"type": "Action.OpenUrl", "title": "Not this", "url": "javascript:alert(1)"},
        {"type": "Action.OpenUrl", "title": "Nor this", "url": "file://etc"},
    ]
    facts = {"type": "FactSet", "facts": [{"title": "<b>", "value": 3}]}
    card = message("<script>alert(1)</script> é", actions=actions)
    card["attachments"][0]["content"]["body"].append({"type": "Container", "items": [facts]})
    post(card)
    post(message("newer"))
    shown = page()
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert "&lt;script&gt;alert(1)&lt;/script&gt; é" in shown.text
    assert "<script>" not in shown.text
    assert "<dt>&lt;b&gt;</dt><dd>3</dd>" in shown.text
    assert '<a href="https://example.org/?a=1&amp;b=2">The run</a>' in shown.text
    assert "Not this" in shown.text
    assert "javascript:" not in shown.text
    assert shown.text.index("newer") < shown.text.index("alert(1)")


def test_the_signature_is_shown_nowhere(post, url):
    post(message("a"))
    asked, state = (requests.get(f"{url}/sandbox/{what}", timeout=10) for what in ("requests", "state"))
    assert asked.json()[0]["query"]["sig"] == "***"
    assert "let-me-in" not in asked.text + state.text


def test_faults(post, cards, url):
    def fault(**rule):
        rules = [{"service": "teams", "times": 1, **rule}]
        assert requests.post(f"{url}/sandbox/faults", json=rules, timeout=10).status_code == 200

    fault(fault="status", status=429, retry_after=3)
    refused = post(message("refused"))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
    assert refused.json()["error"]["message"]
    fault(fault="html")
    assert post(message("in HTML")).text.startswith("<!DOCTYPE")
    fault(fault="delay", seconds=0.1)
    assert post(message("late")).elapsed.total_seconds() >= 0.1
    assert [kept["title"] for kept in cards()] == ["in HTML", "late"]

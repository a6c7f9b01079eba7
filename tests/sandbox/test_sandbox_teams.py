"""The stand-in for a Teams workflow accepts what the real one accepts, and shows it."""

import time

import pytest
import requests

CARD = "application/vnd.microsoft.card.adaptive"


@pytest.fixture
def post(url):
    def post(message, prefix=""):
        query = {"api-version": "2016-06-01", "sp": "/triggers/manual/run", "sv": "1.0", "sig": "sandbox-signature"}
        path = f"{url}{prefix}/workflows/abc/triggers/manual/paths/invoke"
        body = {"data": message} if isinstance(message, bytes) else {"json": message}
        return requests.post(path, params=query, timeout=10, **body)

    return post


def message(*texts, **more):
    body = [{"type": "TextBlock", "text": text} for text in texts]
    card = {"type": "AdaptiveCard", "version": "1.4", "body": body} | more
    return {"type": "message", "attachments": [{"contentType": CARD, "contentUrl": None, "content": card}]}


def test_a_card_is_accepted_and_shown(post, admin):
    before = time.time()
    facts = {"type": "FactSet", "facts": [{"title": "Records", "value": "12"}]}
    sent = message("Rebuilt", "All is well.")
    sent["attachments"][0]["content"]["body"].append({"type": "Container", "items": [facts]})
    response = post(sent)
    assert (response.status_code, response.content) == (202, b"")
    (shown,) = admin("teams")
    assert (shown["title"], shown["text"]) == ("Rebuilt", "All is well.\nRecords: 12")
    assert shown["card"] == sent["attachments"][0]["content"]
    assert before <= shown["at"] <= time.time()


def test_cards_are_shown_in_order_until_they_are_deleted(post, admin):
    for text in "abc":
        post(message(text))
    assert post(message("d"), prefix="/powerautomate/automations/direct").status_code == 202  # the newer form
    assert [card["title"] for card in admin("teams")] == ["a", "b", "c", "d"]
    assert admin("teams", "DELETE") == admin("teams") == []
    post(message("d"))
    admin("reset", "POST")
    assert admin("teams") == []


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
def test_other_messages_are_refused(post, admin, wrong):
    response = post(wrong)
    assert response.status_code == 400
    assert response.json()["error"]["message"]
    assert admin("teams") == []


def test_a_message_of_28_kilobytes_and_one_byte_more(post, admin):
    room = 28 * 1024 - len(requests.Request("POST", "http://x", json=message("")).prepare().body)
    assert post(message("x" * room)).status_code == 202
    assert post(message("x" * (room + 1))).status_code == 413
    assert len(admin("teams")) == 1


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
    assert page().headers["content-type"] == "text/html; charset=utf-8"
    text = page().text
    link = '<a href="https://example.org/?a=1&amp;b=2">The run</a>'
    for expected in ("&lt;script&gt;alert(1)&lt;/script&gt; é", "<dt>&lt;b&gt;</dt><dd>3</dd>", link, "Not this"):
        assert expected in text
    assert "<script>" not in text
    assert "javascript:" not in text
    assert text.index("newer") < text.index("alert(1)")

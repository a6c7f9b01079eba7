"""Cards for Teams: their shape, their size, and that the URL stays a secret."""

import json
import logging

import pytest
import requests

from include.connectors.teams import MAX_BYTES, adaptive_card, post_card
from include.errors import AccessRefused, ConfigurationError, RequestRefused, ServiceUnavailable
from sandbox.testing import serving
from sandbox.world import Settings, World

SIGNATURE = "s1gnature+of/ours="
QUOTED = "s1gnature%2Bof%2fours%3D"
QUERY = f"api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig={QUOTED}"
PATH = "/workflows/abc/triggers/manual/paths/invoke"


@pytest.fixture(scope="module")
def served():
    with serving(World(Settings(books=10, offers=0, teams_signature=SIGNATURE))) as url:
        yield url


@pytest.fixture
def channel(served):
    """The URL of the workflow, and a function that gives the cards."""
    assert requests.post(f"{served}/sandbox/reset", timeout=10).ok
    return f"{served}{PATH}?{QUERY}", lambda: requests.get(f"{served}/sandbox/teams", timeout=10).json()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """Do not sleep before the next try."""
    monkeypatch.setattr("include.connectors.cancellation.time.sleep", lambda seconds: None)


@pytest.mark.parametrize(("tone", "colour"), [("good", "Good"), ("bad", "Attention"), ("neutral", "Default")])
def test_a_card(tone, colour):
    card = adaptive_card("Title", text="Text", facts={"Records": 5, "Empty": ""}, tone=tone)
    assert card == {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "full"},
        "body": [
            {"type": "TextBlock", "size": "Medium", "weight": "Bolder", "wrap": True, "color": colour, "text": "Title"},
            {"type": "TextBlock", "wrap": True, "text": "Text"},
            {"type": "FactSet", "facts": [{"title": "Records", "value": "5"}, {"title": "Empty", "value": ""}]},
        ],
    }


def test_a_card_with_a_link():
    card = adaptive_card("Title", url="https://airflow.test/x")
    assert [part["text"] for part in card["body"]] == ["Title"]
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open in Airflow", "url": "https://airflow.test/x"}]
    assert "actions" not in adaptive_card("Title")


def test_it_arrives(channel):
    url, cards = channel
    card = adaptive_card("Ça marche", text="é" * 100, facts={"Records": 5})
    post_card(url, card)
    (arrived,) = cards()
    assert arrived["card"] == card


def test_what_is_posted(service):
    service.answers(b"", status=202)
    post_card(f"{service.url}?{QUERY}", adaptive_card("é"), {"channelId": "c", "apiKey": "k"})
    (asked,) = service.asked
    assert asked.method == "POST"
    assert asked.headers["Content-Type"] == "application/json; charset=utf-8"
    assert asked.query["sig"] == SIGNATURE
    message = json.loads(asked.body)
    (attachment,) = message.pop("attachments")
    assert message == {"type": "message", "channelId": "c", "apiKey": "k"}
    assert (attachment["contentType"], attachment["contentUrl"]) == ("application/vnd.microsoft.card.adaptive", None)
    assert attachment["content"]["body"][0]["text"] == "é"


@pytest.mark.parametrize("letter", ["x", "é", "\x00", "🚗", '"'])
def test_no_message_is_larger_than_teams_takes(channel, letter):
    url, cards = channel
    facts = {f"Fact {n}": letter * 100_000 for n in range(30)}
    post_card(url, adaptive_card(letter * 100_000, text=letter * 100_000, facts=facts))
    (arrived,) = cards()
    assert len(json.dumps(arrived["card"], ensure_ascii=False).encode()) < MAX_BYTES
    assert arrived["title"].startswith(letter * 3999)


@pytest.mark.parametrize("body", [b"1", b"", b"<html>"])
@pytest.mark.parametrize("status", [200, 202])
def test_any_good_status_is_taken(service, body, status):
    service.answers(body, status=status)
    post_card(service.url, adaptive_card("t"))
    assert len(service.asked) == 1


FAULTS = {
    "401": (lambda s: s.answers(SIGNATURE.encode(), status=401), AccessRefused),
    "400": (lambda s: s.answers(QUOTED.encode(), status=400), RequestRefused),
    "413": (lambda s: s.answers(status=413), RequestRefused),
    "404": (lambda s: s.answers(QUERY.encode(), status=404), RequestRefused),
    "500": (lambda s: s.answers(f"sig={SIGNATURE}".encode(), status=500), ServiceUnavailable),
    "hung up": (lambda s: s.hangs_up(), ServiceUnavailable),
    "redirect": (lambda s: s.answers(status=307, headers={"Location": f"http://b.test/?{QUERY}"}), RequestRefused),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_signature_is_in_no_error_and_no_log_line(service, caplog, fault):
    caplog.set_level(logging.DEBUG)
    make, error = FAULTS[fault]
    make(service)
    with pytest.raises(error) as raised:
        post_card(f"{service.url}?{QUERY}", adaptive_card("t"), {"apiKey": "k3y-of-ours"})
    texts = f"{raised.value!r} {raised.value.__context__!r} {raised.value.__cause__!r} {caplog.text}"
    for secret in (SIGNATURE, QUOTED, QUOTED.upper(), "s1gnature", "k3y-of-ours"):
        assert secret not in texts
    assert service.url in texts


@pytest.mark.parametrize(
    "url", ["", "teams", "ftp://a/b?sig=s1gnature", "http://[::1?sig=s1gnature", "https://?sig=s1gnature"]
)
def test_a_url_that_is_none(url, caplog):
    with pytest.raises(ConfigurationError, match=r"is not (a|the) URL") as raised:
        post_card(url, adaptive_card("t"))
    assert "s1gnature" not in f"{raised.value!r} {raised.value.__context__!r} {caplog.text}"

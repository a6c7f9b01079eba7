"""Messages to Teams from Airflow: none that fails its work, and one of each episode of failure."""

import json
import logging
from types import SimpleNamespace

import psycopg
import pytest
import requests

from sandbox.testing import serving
from sandbox.world import Settings, World

SIGNATURE = "5ecret-signature"
SUBJECT = "some_dag"


@pytest.fixture(scope="module")
def served():
    with serving(World(Settings(books=10, offers=0, teams_signature=SIGNATURE))) as url:
        yield url


class Channel:
    """The stand-in for Teams."""

    def __init__(self, url):
        self.root = url
        self.url = f"{url}/workflows/abc/triggers/manual/paths/invoke?api-version=1&sp=x&sv=1.0&sig={SIGNATURE}"

    def cards(self):
        cards = requests.get(f"{self.root}/sandbox/teams", timeout=10).json()
        requests.delete(f"{self.root}/sandbox/teams", timeout=10)
        return cards

    def titles(self):
        return [card["title"] for card in self.cards()]

    def fault(self, fault, **rule):
        body = [{"fault": fault, "service": "teams", **rule}]
        assert requests.post(f"{self.root}/sandbox/faults", json=body, timeout=10).ok

    def heal(self):
        requests.delete(f"{self.root}/sandbox/faults", timeout=10)


@pytest.fixture
def set_teams(airflow, monkeypatch):
    def set_teams(**fields):
        monkeypatch.setenv("AIRFLOW_CONN_TEAMS", json.dumps({"conn_type": "http", **fields}))

    return set_teams


@pytest.fixture
def channel(served, set_teams, caplog, monkeypatch):
    """The channel, set as the connection `teams`; nothing sleeps before it tries again."""
    monkeypatch.setattr("include.connectors.stopping.time.sleep", lambda seconds: None)
    caplog.set_level(logging.INFO)
    assert requests.post(f"{served}/sandbox/reset", timeout=10).ok
    channel = Channel(served)
    set_teams(password=channel.url)
    return channel


@pytest.fixture
def send(airflow):
    from include.connectors.teams import adaptive_card
    from include.operators.teams import send_card

    return lambda make=lambda: adaptive_card("Title"): send_card(make)


@pytest.fixture
def episode(channel, database, set_database):
    """Functions that tell of a failure and of a success, and give what is kept of the episode."""
    from include.operators.teams import FailureNotifier, RecoveryNotifier

    set_database(database)
    failure, recovery = FailureNotifier(), RecoveryNotifier()

    def context(error=None, previous=None):
        instance = SimpleNamespace(
            dag_id=SUBJECT,
            log_url="http://airflow.test/log?x=1",
            get_previous_ti=lambda: previous and SimpleNamespace(state=previous),
        )
        return {"ti": instance, "exception": error}

    def kept():
        with psycopg.connect(database) as connection:
            return connection.execute("SELECT failures, error, notified_at IS NOT NULL FROM failure_episode").fetchall()

    return SimpleNamespace(
        fails=lambda error="boom", **more: failure.notify(context(error, **more)),
        works=lambda: recovery.notify(context()),
        kept=kept,
    )


FAILING, WORKS = f"{SUBJECT}: failing", f"{SUBJECT}: works again"


# Sending


def test_a_card_arrives(channel, send, caplog):
    assert send() is True
    assert channel.titles() == ["Title"]
    assert "Told the Teams channel of connection 'teams'" in caplog.text


def test_the_url_may_be_the_host_too(channel, send, set_teams):
    set_teams(host=channel.url)
    assert send() is True


@pytest.mark.parametrize(
    "rule",
    [
        *({"fault": "status", "status": status} for status in (400, 401, 404, 413, 429, 500, 503)),
        {"fault": "status", "status": 429, "retry_after": 3600},
        {"fault": "cut"},
    ],
    ids=str,
)
def test_teams_that_refuses_raises_nothing(channel, send, caplog, rule):
    channel.fault(**rule)
    sent = send()
    assert sent is (rule["fault"] == "cut")  # an empty answer cannot be cut
    assert ("could not be delivered" in caplog.text) is not sent
    assert SIGNATURE not in caplog.text


def test_teams_that_is_slow_raises_nothing(channel, send, caplog, monkeypatch):
    from include.connectors import teams

    connector = teams.HttpConnector
    monkeypatch.setattr(teams, "HttpConnector", lambda url, **o: connector(url, **{**o, "read_timeout": 0.1}))
    channel.fault("delay", seconds=0.4)
    assert send() is False
    assert "nothing came for 0.1 s" in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x?sig=5ecret-signature",
        "no address, 5ecret-signature",
        "http://[::1?sig=5ecret-signature",
        "https://?sig=5ecret-signature",
        "http://127.0.0.1:port/?sig=5ecret-signature",
    ],
)
def test_a_url_that_leads_nowhere_raises_nothing(channel, send, set_teams, caplog, url):
    set_teams(password=url)
    assert send() is False
    assert "The message to Teams could not be" in caplog.text
    assert SIGNATURE not in caplog.text


def test_a_card_that_cannot_be_made_raises_nothing(channel, send, caplog):
    assert send(lambda: {}["missing"]) is False
    assert "The message to Teams could not be made: KeyError: 'missing'" in caplog.text


def test_a_connection_without_a_url(channel, send, set_teams, caplog):
    set_teams(extra={"channelId": "x"})
    assert send() is False
    assert "has no URL of a workflow as password" in caplog.text


def test_no_connection(channel, send, monkeypatch, caplog):
    monkeypatch.delenv("AIRFLOW_CONN_TEAMS")
    assert send(lambda: pytest.fail("made for nobody")) is False
    assert "There is no Airflow connection 'teams': nobody is told in Teams" in caplog.text


def test_extras_that_flows_ask_for_go_along(recorder, send, set_teams, monkeypatch):
    bodies = []

    def do_post(handler):
        bodies.append(json.loads(handler.rfile.read(int(handler.headers["Content-Length"]))))
        handler.do_GET()

    monkeypatch.setattr(recorder.RequestHandlerClass, "do_POST", do_post, raising=False)
    set_teams(password=f"{recorder.url}/flow?sig=x", extra={"channelId": 19, "apiKey": "k", "other": "stays here"})
    assert send() is True
    (body,) = bodies
    assert {name: body[name] for name in body if name not in ("type", "attachments")} == {
        "channelId": "19",
        "apiKey": "k",
    }


# Episodes


def test_once_when_it_begins_and_once_when_it_is_over(channel, episode):
    for number in range(3):
        episode.fails(ValueError(f"boom {number}"))
    (card,) = channel.cards()
    assert card["title"] == FAILING
    assert "Error: ValueError: boom 0\nFailed runs: 1\nLog: [open](http://airflow.test/log?x=1)" in card["text"]
    assert episode.kept() == [(3, "ValueError: boom 2", True)]
    episode.works()
    episode.works()
    (card,) = channel.cards()
    assert card["title"] == WORKS
    assert "Failed runs: 3\nLast error: ValueError: boom 2" in card["text"]
    assert episode.kept() == []


def test_nothing_to_tell_while_it_works(channel, episode):
    episode.works()
    assert (channel.titles(), episode.kept()) == ([], [])


def test_the_next_episode_is_told_again(channel, episode):
    for _ in range(2):
        episode.fails()
        episode.works()
    assert channel.titles() == [FAILING, WORKS] * 2


def test_a_failure_that_was_not_delivered_is_told_by_the_next(channel, episode):
    channel.fault("status", status=503)
    episode.fails()
    episode.fails()
    channel.heal()
    assert channel.titles() == []
    episode.fails()
    episode.fails()
    (card,) = channel.cards()
    assert (card["title"], "Failed runs: 3" in card["text"]) == (FAILING, True)


def test_a_recovery_that_was_not_delivered_is_told_by_the_next_success(channel, episode):
    episode.fails()
    channel.fault("status", status=400)
    episode.works()
    assert episode.kept() != []
    channel.heal()
    episode.works()
    episode.works()
    assert channel.titles() == [FAILING, WORKS]


def test_an_episode_of_which_nobody_heard_ends_all_the_same(channel, episode, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_TEAMS")
    episode.fails()
    episode.works()
    assert episode.kept() == []


@pytest.mark.parametrize("error", ["it said password=hunter22 to me", RuntimeError("http://user:hunter22@host/")])
def test_secrets_in_an_error_are_hidden(channel, episode, error):
    episode.fails(error)
    (card,) = channel.cards()
    assert "hunter22" not in json.dumps(card)
    assert "***" in card["text"]
    assert "hunter22" not in str(episode.kept())


def test_a_long_error_is_cut(channel, episode):
    episode.fails(ValueError("x" * 50_000))
    (card,) = channel.cards()
    assert 1000 < len(card["text"]) < 3000


def test_a_task_that_died_without_an_error(channel, episode):
    episode.fails(None)
    (card,) = channel.cards()
    assert (card["title"], "its worker stopped, or it was killed" in card["text"]) == (FAILING, True)


@pytest.mark.parametrize(
    ("previous", "told"), [("failed", []), ("success", [FAILING]), (None, [FAILING]), ("skipped", [FAILING])]
)
def test_while_the_database_is_away_the_run_before_tells(channel, episode, set_database, caplog, previous, told):
    set_database("host=127.0.0.1 port=1 user=nobody dbname=none")
    episode.fails(previous=previous)
    assert channel.titles() == told
    assert "Episodes of failure are not kept" in caplog.text
    episode.works()
    assert channel.titles() == []
    assert "is not known" in caplog.text

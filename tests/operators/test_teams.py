"""Alerts in a Teams channel: none of them fails the work that it is about."""

import pytest

from include.models.alerts import Alert
from tests.operators.conftest import SIGNATURE


@pytest.fixture
def send(airflow):
    from include.operators.notifiers import send_alert

    return lambda make=lambda: Alert(title="Title"): send_alert(make)


def test_a_card_arrives(channel, send, caplog):
    assert send() is True
    assert channel.titles() == ["Title"]
    assert "Sent the alert 'Title' to the Teams channel of connection 'teams'" in caplog.text


def test_the_url_may_be_the_host_too(channel, send, set_connection):
    set_connection("teams", host=channel.teams_url)
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
    assert ("Could not deliver the alert to Teams" in caplog.text) is not sent
    assert SIGNATURE not in caplog.text


def test_teams_that_is_slow_raises_nothing(channel, send, caplog, monkeypatch):
    from include.connectors import teams

    connector = teams.HttpConnector
    monkeypatch.setattr(teams, "HttpConnector", lambda url, **o: connector(url, **{**o, "read_timeout": 0.1}))
    channel.fault("delay", seconds=0.4)
    assert send() is False
    assert "no data came for 0.1 s" in caplog.text


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
def test_a_url_that_leads_nowhere_raises_nothing(channel, send, set_connection, caplog, url):
    set_connection("teams", password=url)
    assert send() is False
    assert "Could not deliver the alert to Teams" in caplog.text
    assert SIGNATURE not in caplog.text


def test_an_alert_that_cannot_be_made_raises_nothing(channel, send, caplog):
    assert send(lambda: {}["missing"]) is False
    assert "Could not create the alert: KeyError: 'missing'" in caplog.text


def test_a_connection_without_a_url(channel, send, set_connection, caplog):
    set_connection("teams", extra={"channelId": "x"})
    assert send() is False
    assert "must have the URL of a Teams workflow as password" in caplog.text


def test_no_connection(channel, send, monkeypatch, caplog):
    monkeypatch.delenv("AIRFLOW_CONN_TEAMS")
    assert send() is False
    assert "Alert not sent: there is no Airflow connection 'teams'" in caplog.text


def test_extras_that_flows_ask_for_go_along(recorder, send, set_connection):
    extra = {"channelId": 19, "apiKey": "k", "other": "stays here"}
    set_connection("teams", password=f"{recorder.url}/flow?sig=x", extra=extra)
    assert send() is True
    ((_, _, body),) = recorder.recorded
    assert (body.keys(), body["channelId"], body["apiKey"]) == (
        {"type", "attachments", "channelId", "apiKey"},
        "19",
        "k",
    )

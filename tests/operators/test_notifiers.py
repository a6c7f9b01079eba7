"""The Variable `alerts_notifier`: alerts by mail or to a webhook instead of Teams, and Teams when it is wrong."""

import json
import logging
import socketserver
from email import message_from_bytes
from email.policy import default

import pytest
from airflow.sdk import BaseNotifier

from include.models.alerts import Alert
from tests.operators.conftest import run_server

SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
HTTP = "airflow.providers.http.notifications.http.HttpNotifier"
ALERT = Alert(
    title="fnac_stocks: failing",
    body="Look at <b>this</b>.",
    facts={"Cause": "{{ 7 * 7 }} & <script>\nsecond line", "Failed runs": 3},
    tone="bad",
    url="https://airflow.test/prefix/dags/x/runs/y",
)


@pytest.fixture
def send(airflow, caplog):
    from include.operators.notifiers import send_alert

    caplog.set_level(logging.INFO)
    return lambda alert=ALERT: send_alert(lambda: alert, {"run_id": "the run"})


@pytest.fixture
def set_notifier(airflow, monkeypatch):
    def set_notifier(value):
        text = value if isinstance(value, str) else json.dumps(value)
        monkeypatch.setenv("AIRFLOW_VAR_ALERTS_NOTIFIER", text)

    return set_notifier


class _Mailbox(socketserver.StreamRequestHandler):
    """Takes mails by SMTP."""

    def handle(self):
        self.wfile.write(b"220 mail.test\r\n")
        while line := self.rfile.readline():
            word = line.split()[0].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (line := self.rfile.readline()) != b".\r\n":
                    lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
                self.server.mails.append(message_from_bytes(b"".join(lines), policy=default))
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 OK\r\n")
            if word == b"QUIT":
                return


@pytest.fixture
def mailbox(set_connection):
    """A mail server, set as the connection `smtp_default`; its `mails`."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mailbox)
    server.mails = []
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@example.org"}
    set_connection("smtp_default", conn_type="smtp", host="127.0.0.1", port=server.server_address[1], extra=extra)
    yield from run_server(server)


@pytest.fixture
def webhook(recorder, set_connection):
    """A web server, set as the connection `hook`."""
    set_connection("hook", host=recorder.url)
    return recorder


def test_by_mail_with_nothing_but_the_receiver(channel, send, set_notifier, mailbox, caplog):
    set_notifier({"notifier": SMTP, "kwargs": {"to": "ops@example.org"}})
    assert send() is True
    (mail,) = mailbox.mails
    assert (mail["Subject"], mail["To"], mail["From"]) == (ALERT.title, "ops@example.org", "airflow@example.org")
    html = mail.get_body().get_content()
    assert "{{ 7 * 7 }} &amp; &lt;script&gt;<br>second line" in html.replace("\r", "")
    assert 'href="https://airflow.test/prefix/dags/x/runs/y"' in html
    assert channel.titles() == []
    assert f"Sent the alert 'fnac_stocks: failing' through {SMTP}" in caplog.text


def test_by_mail_with_templates_of_ones_own(channel, send, set_notifier, mailbox):
    kwargs = {"to": "a@example.org", "subject": "[{{ alert.tone }}] {{ alert.title }}, {{ run_id }}"}
    set_notifier({"notifier": SMTP, "kwargs": {**kwargs, "html_content": "<p>{{ alert.facts['Failed runs'] }}</p>"}})
    assert send() is True
    (mail,) = mailbox.mails
    assert mail["Subject"] == "[bad] fnac_stocks: failing, the run"
    assert mail.get_body().get_content().strip() == "<p>3</p>"


def test_to_a_webhook(channel, send, set_notifier, webhook):
    headers = {"Authorization": "Bearer t0ken-of-ours"}
    set_notifier({"notifier": HTTP, "kwargs": {"http_conn_id": "hook", "endpoint": "in/x", "headers": headers}})
    assert send() is True
    expected = {"title": ALERT.title, "text": ALERT.text, "tone": "bad", "url": ALERT.url}
    ((path, sent_headers, body),) = webhook.recorded
    assert (path, sent_headers["Authorization"], body) == ("/in/x", "Bearer t0ken-of-ours", expected)
    assert ALERT.text.startswith(
        "Look at <b>this</b>.\n\nCause: {{ 7 * 7 }} & <script>\nsecond line\nFailed runs: 3\n\n"
    )
    assert channel.titles() == []


def test_a_webhook_that_refuses_is_replaced_by_teams_and_its_secrets_are_not_logged(
    channel, send, set_notifier, webhook, caplog
):
    webhook.status = 500
    kwargs = {"http_conn_id": "hook", "endpoint": "in", "headers": {"Authorization": "Bearer t0ken-of-ours"}}
    set_notifier({"notifier": HTTP, "kwargs": kwargs})
    assert send() is True
    assert channel.titles() == [ALERT.title]
    assert "The notifier of the Airflow Variable alerts_notifier failed" in caplog.text
    assert "t0ken-of-ours" not in caplog.text


class Loud(BaseNotifier):
    """Fails with what it was given."""

    template_fields = ("text",)

    def __init__(self, *, text, webhook_url=None, token=None):
        super().__init__()
        self.text, self.detail = text, f"{webhook_url} {token}"

    def notify(self, context):
        raise RuntimeError(f"{self.text}: {self.detail}")


class Silent(BaseNotifier):
    """Has no way to send in a task."""


class NoNotifier:
    """Is none."""

    def __init__(self, **kwargs):
        raise AssertionError("made although it is no notifier")


WRONG = {
    "no JSON": ("{nonsense", "is not JSON (Expecting property name"),
    "a list": ("[1]", "does not name a notifier"),
    "no notifier": ({"kwargs": {}}, "does not name a notifier"),
    "a number": ({"notifier": 5}, "does not name a notifier"),
    "unknown keys": ({"notifier": SMTP, "kwarg": {}}, "has unknown keys: kwarg"),
    "kwargs of another type": ({"notifier": SMTP, "kwargs": ["x"]}, "must have an object of arguments as kwargs"),
    "unknown class": ({"notifier": SMTP + "s"}, f"names {SMTP}s, which cannot be imported"),
    "no module": ({"notifier": "Smtp"}, "names Smtp, which cannot be imported"),
    "not installed": (
        {"notifier": "airflow.providers.slack.notifications.slack_webhook.SlackWebhookNotifier"},
        "Is apache-airflow-providers-slack installed?",
    ),
    "no class": ({"notifier": "json.dumps"}, "names json.dumps, which is not an Airflow notifier"),
    "no notifier class": ({"notifier": "pathlib.Path"}, "names pathlib.Path, which is not an Airflow notifier"),
    "wrong kwargs": ({"notifier": SMTP, "kwargs": {"too": "x"}}, f"has kwargs that {SMTP} does not accept"),
    "bad template": ({"notifier": SMTP, "kwargs": {"to": "{{ alert."}}, "failed: TemplateSyntaxError"),
    "no connection": ({"notifier": SMTP, "kwargs": {"to": "x@example.org"}}, "SMTP connection is not found"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_setting_is_a_warning_and_teams_is_used(channel, send, set_notifier, caplog, wrong):
    value, complaint = WRONG[wrong]
    set_notifier(value)
    assert send() is True
    assert channel.titles() == [ALERT.title]
    (warning,) = [each.message for each in caplog.records if each.levelname == "WARNING" and "Variable" in each.message]
    assert warning.startswith(("The Airflow Variable alerts_notifier ", "The notifier of the Airflow Variable alerts"))
    assert complaint in warning


@pytest.mark.parametrize("name", ["Loud", "Silent", "NoNotifier"])
def test_what_a_notifier_raises_fails_nothing_and_shows_no_secret(
    channel, send, set_notifier, caplog, monkeypatch, name
):
    monkeypatch.setattr("json.probe", globals()[name], raising=False)
    kwargs = {"webhook_url": "https://hooks.test/T0PSECRET", "token": "s3cret-token"} if name == "Loud" else {}
    set_notifier({"notifier": "json.probe", "kwargs": kwargs})
    assert send() is True
    assert channel.titles() == [ALERT.title]
    assert "Trying Teams instead" in caplog.text
    for secret in ("T0PSECRET", "s3cret-token"):
        assert secret not in caplog.text


def test_without_teams_a_wrong_setting_still_raises_nothing(send, set_notifier, monkeypatch, caplog):
    monkeypatch.delenv("AIRFLOW_CONN_TEAMS", raising=False)
    set_notifier("nonsense")
    assert send() is False
    assert "Alert not sent: there is no Airflow connection 'teams'" in caplog.text


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_setting_is_none(channel, send, set_notifier, caplog, value):
    set_notifier(value)
    assert send() is True
    assert "alerts_notifier" not in caplog.text

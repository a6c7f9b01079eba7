from __future__ import annotations

import gzip
import json
import logging
import socket
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest
import requests

from include.connectors.http import HttpConnector
from include.errors import (
    AccessRefused,
    ConfigurationError,
    FatalError,
    RateLimited,
    RedirectsElsewhere,
    RequestRefused,
    ServiceUnavailable,
    UndecodableBody,
    Unreachable,
)

GOOD = b'{"fine": true}'
decode = msgspec.json.decode


def all_texts(error: BaseException, caplog) -> str:
    """The error with all that hangs on it, and all log lines of all loggers."""
    seen, todo = [], [error]
    while todo:
        one = todo.pop()
        seen += [repr(one), repr(one.args), repr(vars(one)), *traceback.format_exception_only(one)]
        todo += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join([*seen, caplog.text])


# ---------------------------------------------------------------- good answers


def test_answer_carries_value_time_status_and_size(service, connect):
    service.answers(GOOD, status=201)
    before = datetime.now(UTC)
    response = connect().get("stocks/1", {"limit": 3, "after": None}, decode=decode)
    assert response.value == {"fine": True}
    assert before <= response.requested_at <= datetime.now(UTC)
    assert response.requested_at.utcoffset() == timedelta(0)
    assert (response.status, response.size) == (201, len(GOOD))
    assert (service.asked[0].path, service.asked[0].query) == ("/api/stocks/1", {"limit": "3"})


def test_time_is_that_of_the_request_that_succeeded(service, connect):
    service.answers(status=500).answers(GOOD)
    woke: list[datetime] = []
    response = connect(sleep=lambda _: woke.append(datetime.now(UTC))).get(decode=decode)
    assert response.requested_at >= woke[0]


def test_connection_is_used_again(service, connect):
    service.answers(GOOD, times=2).answers(status=503, body=b"busy").answers(GOOD, chunked=True).answers(GOOD)
    connector = connect()
    for _ in range(4):
        connector.get(decode=decode)
    assert len(service.asked) == 5
    assert service.connections == 1


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [10, 3_000_000])
def test_gzip_is_decompressed(service, connect, chunked, size):
    body = b"0123456789" * (size // 10)
    service.answers(gzip.compress(body), headers={"Content-Encoding": "gzip"}, chunked=chunked)
    response = connect().get(decode=bytes)
    assert response.value == body
    assert response.size == len(body)


@pytest.mark.parametrize("status", [200, 204])
def test_empty_body_is_for_decode_to_judge(service, connect, status):
    service.answers(b"", status=status)
    connector = connect()
    assert connector.get(decode=lambda body: decode(body) if body else "nothing").value == "nothing"
    assert connector.stats.requests == 1


def test_headers_and_credentials_are_sent(service, connect):
    service.answers(GOOD)
    connect(headers={"X-Api-Key": "k1"}, auth=("user", "pass")).get(decode=decode)
    assert service.asked[0].headers["X-Api-Key"] == "k1"
    assert service.asked[0].headers["Authorization"] == "Basic dXNlcjpwYXNz"


def test_credentials_in_the_address_are_used_but_not_shown(service, connect):
    service.answers(status=404)
    connector = connect(service.url.replace("//", "//user:h%40rd@"))
    with pytest.raises(RequestRefused) as refused:
        connector.get(decode=decode)
    assert service.asked[0].headers["Authorization"] == "Basic dXNlcjpoQHJk"
    assert "h@rd" not in str(refused.value)
    assert "h%40rd" not in str(refused.value)


def test_netrc_does_not_replace_the_headers(service, connect, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    service.answers(GOOD)
    connect(headers={"Authorization": "Bearer mine"}).get(decode=decode)
    assert service.asked[0].headers["Authorization"] == "Bearer mine"


def test_session_that_is_handed_in_keeps_its_set_up_and_stays_open(service, connect):
    service.answers(GOOD)
    with requests.Session() as session:
        session.headers["X-From-Hook"] = "yes"
        session.auth = ("user", "pass")
        with connect(session=session, headers={"X-Mine": "too"}) as connector:
            connector.get(decode=decode)
        connector.get(decode=decode)
        assert service.connections == 1
        assert {"X-From-Hook", "X-Mine", "Authorization"} <= set(service.asked[0].headers)
        assert "X-Mine" not in session.headers


def test_own_session_is_closed(service, connect, monkeypatch):
    closed = []
    monkeypatch.setattr(requests.Session, "close", lambda session: closed.append(id(session)))
    with connect() as connector:
        assert not closed
    assert closed == [id(connector._transport._session)]


# ---------------------------------------------------------------- asking again


@pytest.mark.parametrize(
    "fault",
    [
        *[lambda s, status=status: s.answers(status=status) for status in (408, 429, 500, 502, 503, 504, 520)],
        lambda s: s.answers(GOOD, cut=5),
        lambda s: s.answers(GOOD, cut=5, chunked=True),
        lambda s: s.answers(gzip.compress(GOOD), headers={"Content-Encoding": "gzip"}, cut=5),
        lambda s: s.answers(b"not gzip at all", headers={"Content-Encoding": "gzip"}),
        lambda s: s.hangs_up(),
        lambda s: s.hangs(),
        *[lambda s, body=body: s.answers(body) for body in (b'{"fine": tr', b"", b"<html><body>Maintenance")],
    ],
)
def test_what_passes_is_asked_again(service, connect, naps, fault, caplog):
    fault(service).answers(GOOD)
    connector = connect(read_timeout=0.2)
    assert connector.get(decode=decode).value == {"fine": True}
    assert naps == [1.0]
    assert (connector.stats.requests, connector.stats.retries, connector.stats.waited) == (2, 1, 1.0)
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Attempt 1 of 5, next in 1.0 s: " in line.getMessage()
    assert "%s" in line.msg


def test_back_off_doubles_up_to_the_longest_sleep(service, connect, naps):
    service.answers(status=500)
    with pytest.raises(ServiceUnavailable, match=r"responded with 500: '\{\}' \(6 attempts\)"):
        connect(attempts=6, longest_sleep=5.0).get(decode=decode)
    assert naps == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert len(service.asked) == 6


def test_jitter_is_full(service, connect, naps):
    service.answers(status=500)
    draws = iter([0.0, 0.5, 0.25])
    with pytest.raises(ServiceUnavailable):
        connect(attempts=4, jitter=lambda: next(draws)).get(decode=decode)
    assert naps == [1.0, 1.0]  # 0 of 1 is no nap, half of 2, a quarter of 4


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(service, connect, naps, status):
    service.answers(status=status, headers={"Retry-After": "7"}).answers(GOOD)
    connect().get(decode=decode)
    assert naps == [7.0]


@pytest.mark.parametrize("sends_clock", [True, False])
def test_retry_after_date_is_compared_with_the_clock_of_the_service(service, connect, naps, sends_clock):
    now = datetime(2020, 1, 1, 12, 0, 0, tzinfo=UTC) if sends_clock else datetime.now(UTC)
    dates = {"Date": format_datetime(now, usegmt=True)} if sends_clock else {}
    dates["Retry-After"] = format_datetime(now + timedelta(seconds=30), usegmt=True)
    service.answers(status=429, headers=dates).answers(GOOD)
    service.script[0] = _without_own_date(service.script[0])  # BaseHTTPRequestHandler would send a Date first
    connect().get(decode=decode)
    assert naps == [30.0 if sends_clock else pytest.approx(29.5, abs=1.5)]


def _without_own_date(answer):
    def wrapped(handler):
        handler.send_response = handler.send_response_only
        answer(handler)

    return wrapped


PAST = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize("value", ["soon", "-5", "", "nan", "inf", "1e9", "٣", "Wed, 99 Foo 2020 00:00:00 GMT", PAST])
def test_retry_after_that_makes_no_sense_or_is_over_is_ignored(service, connect, naps, value):
    service.answers(status=429, headers={"Retry-After": value.encode().decode("latin-1")}).answers(GOOD)
    connect().get(decode=decode)
    assert naps == [1.0]


@pytest.mark.parametrize(("value", "seconds"), [("3123", 3123), ("9" * 400, 86_400)], ids=["long", "absurd"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_long_wait_is_raised_at_once_and_cut_to_a_day(service, connect, naps, status, value, seconds):
    service.answers(status=status, headers={"Retry-After": value})
    with pytest.raises(RateLimited, match=f"{seconds} s") as limited:
        connect().get(decode=decode)
    assert limited.value.retry_after == seconds
    assert naps == []
    assert len(service.asked) == 1


def test_after_the_last_attempt_the_error_says_what_it_was(service, connect):
    service.answers(status=429, headers={"Retry-After": "2"})
    with pytest.raises(RateLimited, match="responded with 429") as limited:
        connect(attempts=2).get(decode=decode)
    assert limited.value.retry_after == 2
    assert len(service.asked) == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            lambda s: s.answers(GOOD, cut=5),
            r"cut in the middle of the response \(IncompleteRead\(9 bytes read, 5 more expected\)",
        ),
        (lambda s: s.hangs(), r"no data came for 0\.2 s"),
        (lambda s: s.hangs_up(), "Remote end closed connection without response"),
        (lambda s: s.trickles(pause=0.05), r"took longer than 0\.3 s"),
        (lambda s: s.trickles(pause=5), r"no data came for 0\.2 s"),
        (lambda s: s.answers(b"not gzip", headers={"Content-Encoding": "gzip"}), "compressed body is broken"),
    ],
)
def test_broken_connections_are_service_unavailable(service, connect, fault, words):
    fault(service)
    connector = connect(conn_id="shop_api", attempts=1, read_timeout=0.2, response_timeout=0.3)
    with pytest.raises(ServiceUnavailable, match=rf"{words}.* \(Airflow connection shop_api\)$") as unavailable:
        connector.get("stocks", {"limit": 5}, decode=decode)
    assert f"GET {service.url}/stocks?limit=5 " in str(unavailable.value)
    assert unavailable.value.__context__ is None


def test_refused_connection_is_service_unavailable(connect, naps):
    words = r"Connection refused: nothing listens at this host and port \(Airflow connection shop_api\)"
    with pytest.raises(ServiceUnavailable, match=words):
        connect("http://127.0.0.1:1", conn_id="shop_api", attempts=3).get(decode=decode)
    assert naps == [1.0, 2.0]


def test_both_timeouts_reach_the_transport(connect, monkeypatch):
    def never(session, request, **options):
        assert options["timeout"] == (1.5, 3)
        raise requests.ConnectTimeout("http://secret@host")

    monkeypatch.setattr(requests.Session, "send", never)
    with pytest.raises(ServiceUnavailable, match=r"no connection within 1\.5 s"):
        connect(attempts=1, connect_timeout=1.5, read_timeout=3).get(decode=decode)


@pytest.mark.parametrize("body", [b'{"fine": tr', b"\xff\xfe", b'"\xff"', b"[1]"])
def test_undecodable_body(service, connect, body):
    service.answers(body, headers={"Content-Type": "application/json"})
    with pytest.raises(UndecodableBody, match=r"responded with 200 \(application/json\)"):
        connect(attempts=2).get(decode=lambda b: msgspec.json.decode(b, type=dict[str, str]))
    assert len(service.asked) == 2


@pytest.mark.parametrize(
    ("body", "decode", "words"), [(b"\xff", bytes.decode, "invalid start byte"), (b"{", json.loads, "Expecting")]
)
def test_errors_of_the_standard_library_mean_undecodable(service, connect, body, decode, words):
    service.answers(body)
    with pytest.raises(UndecodableBody, match=words) as undecodable:
        connect(attempts=1).get(decode=decode)
    assert undecodable.value.__context__ is None


def test_undecodable_body_is_shown_in_part_and_html_is_named(service, connect):
    service.answers(b"<!DOCTYPE html>\n<title>Down\x00</title>" + b"x" * 500, headers={"Content-Type": "text/html"})
    with pytest.raises(UndecodableBody) as undecodable:
        connect(attempts=1).get(decode=decode)
    assert "it begins '<!DOCTYPE html> <title>Down </title>" + "x" * 44 + "'" in str(undecodable.value)
    assert "looks like HTML" in str(undecodable.value)


def test_other_errors_of_decode_are_not_hidden(service, connect):
    service.answers(GOOD)
    with pytest.raises(ZeroDivisionError):
        connect().get(decode=lambda body: 1 / 0)
    assert len(service.asked) == 1


# ---------------------------------------------------------------- asking again would not help


@pytest.mark.parametrize("status", [400, 404, 410, 422, 304])
def test_request_refused(service, connect, status):
    service.answers(b"" if status == 304 else b"unknown venue", status=status)
    with pytest.raises(RequestRefused) as refused:
        connect().get(decode=decode)
    assert refused.value.status == status
    assert status == 304 or "unknown venue" in str(refused.value)
    assert len(service.asked) == 1


def test_cut_body_of_a_refusal_does_not_hide_the_refusal(service, connect):
    service.answers(b"go away", status=403, cut=7)
    with pytest.raises(AccessRefused):
        connect().get(decode=decode)


@pytest.mark.parametrize("compressed", [False, True])
def test_body_beyond_the_limit_is_not_read(service, connect, compressed):
    body = b"0" * 20_000_000
    if compressed:
        service.answers(gzip.compress(body), headers={"Content-Encoding": "gzip"})
    else:
        service.trickles(pause=0).script[0] = _endless
    connector = connect(max_body_bytes=1_000_000)
    with pytest.raises(FatalError, match="more than 1,000,000 bytes"):
        connector.get(decode=bytes)
    assert len(service.asked) == 1


def _endless(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    try:
        while True:
            handler.wfile.write(b"0" * 100_000)
    except OSError:
        pass


@pytest.mark.parametrize("url", ["", "stocks.example", "ftp://host/x", "https://", "http:///x"])
def test_base_url_must_be_one(url):
    with pytest.raises(ConfigurationError, match="must start with http"):
        HttpConnector(url)


def test_attempts_must_be_positive(service):
    with pytest.raises(ConfigurationError, match="attempts"):
        HttpConnector(service.url, attempts=0)


def test_header_that_cannot_be_sent_is_a_configuration_error(connect, caplog):
    connector = connect(headers={"X-Api-Key": "clé-\u2603\n"})
    with pytest.raises(ConfigurationError, match="cannot be sent") as wrong:
        connector.get(decode=decode)
    assert "clé" not in all_texts(wrong.value, caplog)


# ---------------------------------------------------------------- which connection


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "responded with 401: check the credentials of the Airflow connection shop_api"),
        (403, "responded with 403: check the credentials of the Airflow connection shop_api"),
        (404, "responded with 404: check the id in the URL, and the address of the Airflow connection shop_api"),
        (422, "responded with 422: .* the address of the Airflow connection shop_api"),
    ],
)
def test_a_refusal_names_the_connection_before_the_response(service, connect, status, words):
    service.answers(b"<html>" + b"long " * 99, status=status)
    with pytest.raises(FatalError, match=f"^GET {service.url} {words}.*The response begins '<html>long") as refused:
        connect(conn_id="shop_api").get(decode=decode)
    assert isinstance(refused.value, AccessRefused) == (status in (401, 403))
    assert refused.value.__context__ is None
    assert len(service.asked) == 1


def unresolvable(monkeypatch, *errors):
    """Let names resolve to these errors, one after the other; the last one is repeated."""
    left = list(errors)
    asked = []
    real = socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        if not host.endswith(".example"):
            return real(host, *args, **kwargs)
        asked.append(host)
        raise socket.gaierror(left.pop(0) if len(left) > 1 else left[0], "as the resolver says")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_an_unknown_host_is_retried_once_and_names_the_connection(connect, naps, monkeypatch):
    asked = unresolvable(monkeypatch, socket.EAI_NONAME)
    words = "the host nowhere.example is unknown, check the address of the Airflow connection shop_api"
    with pytest.raises(Unreachable, match=words) as failed:
        connect("http://nowhere.example/api", conn_id="shop_api").get("x", {"token": "t0ken"}, decode=decode)
    assert naps == [1.0]
    assert asked == ["nowhere.example"] * 2
    assert "t0ken" not in str(failed.value)
    assert isinstance(failed.value, ConfigurationError)  # so the task is not retried either


def test_a_resolver_that_cannot_tell_at_the_moment_is_asked_again(connect, naps, monkeypatch):
    asked = unresolvable(monkeypatch, socket.EAI_AGAIN)
    with pytest.raises(
        ServiceUnavailable, match=r"cannot be resolved at the moment .* \(Airflow connection shop_api\)"
    ):
        connect("http://nowhere.example/", conn_id="shop_api", attempts=4).get(decode=decode)
    assert naps == [1.0, 2.0, 4.0]
    assert len(asked) == 4


def test_an_unknown_host_of_a_proxy_is_said_as_such(connect, monkeypatch):
    unresolvable(monkeypatch, socket.EAI_NONAME)
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    with pytest.raises(Unreachable, match="the host of the proxy is unknown"):
        connect("http://shop.test/", conn_id="shop_api").get(decode=decode)


# ---------------------------------------------------------------- redirects


def test_redirect_within_the_service_is_followed_with_its_own_query(service, connect):
    service.answers(status=302, headers={"Location": "/api/v2?x=1"}).answers(GOOD)
    assert connect(headers={"X-Api-Key": "k"}).get("v1", {"y": 2}, decode=decode).value == {"fine": True}
    assert (service.asked[1].path, service.asked[1].query) == ("/api/v2", {"x": "1"})
    assert service.asked[1].headers["X-Api-Key"] == "k"


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{other}", "localhost:{port}\\@127.0.0.1:{port}"])
def test_redirect_to_another_service_is_refused(service, connect, host, caplog):
    target = f"http://{host.format(port=service.port, other=service.port - 1)}/api?token=t0p"
    service.answers(status=307, headers={"Location": target}).answers(GOOD)
    words = "redirects to another service.* the credentials of the Airflow connection shop_api: not followed"
    with pytest.raises(RedirectsElsewhere, match=words) as refused:
        connect(headers={"X-Api-Key": "k"}, conn_id="shop_api").get(decode=decode)
    assert refused.value.status == 307
    assert len(service.asked) == 1
    assert "t0p" not in all_texts(refused.value, caplog)


def test_redirects_end(service, connect):
    service.answers(status=301, headers={"Location": "/api"})
    with pytest.raises(RequestRefused, match="more than 5 times"):
        connect().get(decode=decode)
    assert len(service.asked) == 6


# ---------------------------------------------------------------- rate limits


class RecordingRateLimiter:
    def __init__(self, *waits: float) -> None:
        self.waits = list(waits)
        self.pauses: list[float] = []

    def acquire(self, longest: float = 60.0) -> float:
        return self.waits.pop(0)

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def test_the_rate_limiter_is_asked_before_every_request(service, connect, naps):
    service.answers(status=500).answers(status=302, headers={"Location": "/api"}).answers(GOOD)
    limiter = RecordingRateLimiter(0.0, 0.25, 0.5)
    connector = connect(rate_limiter=limiter)
    connector.get(decode=decode)
    assert naps == [1.0, 0.25, 0.5]
    assert limiter.waits == []
    assert limiter.pauses == []
    assert connector.stats.waited == 1.75


def test_a_wait_too_long_to_sleep_through_is_raised_before_the_request(service, connect, naps):
    with pytest.raises(RateLimited) as limited:
        connect(rate_limiter=RecordingRateLimiter(61.0)).get(decode=decode)
    assert limited.value.retry_after == 61.0
    assert naps == []
    assert service.asked == []


@pytest.mark.parametrize("wait", [3, 3123])
def test_the_rate_limiter_learns_of_retry_after(service, connect, wait):
    service.answers(status=429, headers={"Retry-After": str(wait)})
    limiter = RecordingRateLimiter(0.0)
    with pytest.raises(RateLimited):
        connect(rate_limiter=limiter, attempts=1).get(decode=decode)
    assert limiter.pauses == [wait]


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "fault",
    [
        *[
            lambda s, status=status: s.answers(b"you sent s3cr&t and k3y", status=status)
            for status in (200, 403, 404, 429, 500)
        ],
        lambda s: s.answers(b"x" * 99, cut=50),
        lambda s: s.answers(status=302, headers={"Location": "http://u:s3cr%26t@other.example/?token=s3cr%26t"}),
        lambda s: s.hangs_up(),
        lambda s: s.hangs(),
    ],
)
def test_no_secret_in_any_error_or_log_line(service, connect, fault, caplog):
    caplog.set_level(logging.DEBUG)
    fault(service)
    connector = connect(
        attempts=2,
        read_timeout=0.1,
        headers={"X-Api-Key": "k3y", "Authorization": "Bearer b34rer"},
        secrets=["s3cr&t", "my-path"],
    )
    with pytest.raises((ServiceUnavailable, FatalError, RateLimited, UndecodableBody)) as raised:
        connector.get("my-path", {"access_token": "t0ken", "q": "s3cr&t"}, decode=decode)
    texts = all_texts(raised.value, caplog)
    # what urllib3 logs is hidden by names only, so the path and `q` stand in its own DEBUG lines
    ours = "\n".join(line for line in texts.splitlines() if "urllib3" not in line and "connectionpool" not in line)
    for secret in ("s3cr", "k3y", "b34rer", "my-path"):
        assert secret not in ours
    assert "t0ken" not in texts
    assert raised.value.__context__ is None
    assert raised.value.__cause__ is None


def test_secrets_of_the_session_are_hidden_too(service, connect):
    service.answers(b"p4ss d3fault dTpwNHNz", status=404)
    with requests.Session() as session:
        session.auth = ("u", "p4ss")
        session.headers["X-Token"] = "d3fault"
        with pytest.raises(RequestRefused, match=r"'\*\*\* \*\*\* \*\*\*'"):
            connect(session=session).get(decode=decode)


# ---------------------------------------------------------------- stats


def test_stats_add_up(service, connect, caplog):
    caplog.set_level(logging.DEBUG, logger="include.connectors.http")
    service.answers(GOOD, times=2).answers(status=500, body=b"").answers(GOOD)
    connector = connect()
    for _ in range(3):
        connector.get(decode=decode)
    stats = connector.stats
    assert (stats.requests, stats.retries, stats.bytes, stats.waited) == (4, 1, 3 * len(GOOD), 1.0)
    assert 0 < stats.seconds < 5
    assert [r.levelname for r in caplog.records].count("WARNING") == 1
    assert f"GET {service.url}: 200, {len(GOOD)} bytes in" in caplog.text


# ---------------------------------------------------------------- other methods


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_any_method_is_sent_with_its_body_and_headers(service, connect, method):
    service.answers(GOOD)
    headers = {"Content-Type": "application/json", "X-Mine": "of the request"}
    connector = connect(headers={"X-Mine": "of the connector", "X-Key": "k"})
    response = connector.request(method, "things", {"a": 1}, body='{"é": 1}'.encode(), headers=headers, decode=decode)
    assert response.value == {"fine": True}
    (asked,) = service.asked
    assert (asked.method, asked.path, asked.query) == (method, "/api/things", {"a": "1"})
    assert asked.body == '{"é": 1}'.encode()
    assert (asked.headers["X-Mine"], asked.headers["X-Key"]) == ("of the request", "k")
    assert asked.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("fault", [lambda s: s.answers(GOOD, cut=5), lambda s: s.hangs_up()], ids=["cut", "hung up"])
def test_a_post_is_repeated_whole(service, connect, fault):
    fault(service)
    service.answers(GOOD)
    connector = connect()
    connector.request("POST", body=b"all of it", decode=decode)
    assert [(asked.method, asked.body) for asked in service.asked] == [("POST", b"all of it")] * 2
    assert connector.stats.retries == 1


def test_errors_name_the_method(service, connect, caplog):
    service.answers(status=503).answers(status=404)
    with pytest.raises(RequestRefused, match=f"^POST {service.url}/x responded with 404"):
        connect().request("POST", "x", decode=decode)
    assert f"POST {service.url}/x responded with 503" in caplog.text


# ---------------------------------------------------------------- mirrors


DOWN = {
    "503": lambda s: s.answers(status=503),
    "503 with a wait": lambda s: s.answers(status=503, headers={"Retry-After": "9"}),
    "cut": lambda s: s.answers(GOOD, cut=5),
    "hung up": lambda s: s.hangs_up(),
    "silent": lambda s: s.hangs(),
}


@pytest.mark.parametrize("fault", DOWN)
def test_a_mirror_is_asked_at_once(service, mirror, connect, naps, caplog, fault):
    DOWN[fault](service)
    mirror.answers(GOOD)
    connector = connect(mirrors=[mirror.url], read_timeout=0.2)
    response = connector.request("POST", "x", {"a": 1}, body=b"b", decode=decode)
    assert response.value == {"fine": True}
    assert naps == []
    (asked,) = mirror.asked
    assert (asked.path, asked.query, asked.body) == ("/api/x", {"a": "1"}, b"b")
    assert (connector.stats.requests, connector.stats.retries) == (2, 1)
    assert "; trying the next address of the service" in caplog.text


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.example/"])
def test_a_mirror_is_asked_when_nobody_listens_or_a_host_is_unknown(mirror, connect, naps, monkeypatch, url):
    unresolvable(monkeypatch, socket.EAI_NONAME)
    mirror.answers(GOOD)
    assert connect(url, mirrors=[mirror.url]).get(decode=decode).value == {"fine": True}
    assert naps == []


def test_when_all_are_down_it_waits_and_begins_with_the_first(service, mirror, connect, naps):
    service.answers(status=503).answers(status=503).answers(GOOD)
    mirror.answers(status=500)
    connect(mirrors=[mirror.url]).get(decode=decode)
    assert (len(service.asked), len(mirror.asked)) == (3, 2)
    assert naps == [1.0, 2.0]


def test_attempts_count_rounds(service, mirror, connect):
    service.answers(status=503)
    mirror.answers(status=500)
    with pytest.raises(ServiceUnavailable, match=r"responded with 500.* \(3 attempts\)"):
        connect(mirrors=[mirror.url], attempts=3).get(decode=decode)
    assert (len(service.asked), len(mirror.asked)) == (3, 3)


def test_a_wait_that_all_ask_for_is_obeyed(service, mirror, connect, naps):
    for each in (service, mirror):
        each.answers(status=503, headers={"Retry-After": "7"}).answers(GOOD)
    connect(mirrors=[mirror.url]).get(decode=decode)
    assert naps == [7.0]


def test_a_429_is_no_reason_to_ask_elsewhere(service, mirror, connect, naps):
    service.answers(status=429, headers={"Retry-After": "3"}).answers(GOOD)
    connect(mirrors=[mirror.url]).get(decode=decode)
    assert naps == [3.0]
    assert mirror.asked == []


@pytest.mark.parametrize(("status", "error"), [(400, RequestRefused), (403, AccessRefused)])
def test_a_refusal_holds_for_all_mirrors(service, mirror, connect, status, error):
    service.answers(status=status)
    with pytest.raises(error):
        connect(mirrors=[mirror.url]).get(decode=decode)
    assert mirror.asked == []


def test_a_mirror_must_be_an_address(service, connect):
    with pytest.raises(ConfigurationError, match="'mirror' is not the URL of a service"):
        connect(mirrors=["mirror"])

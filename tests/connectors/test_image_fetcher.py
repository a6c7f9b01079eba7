"""Images are fetched from anywhere, with limits and without credentials."""

import logging

import pytest

from include.connectors.images import MAX_ORIGINS, ImageFetcher
from include.connectors.third_party import ThirdPartyRule
from include.errors import BadImage, RateLimited, ServiceUnavailable

OWN = ThirdPartyRule(allow_private_networks=True)
"""The services of these tests are on this machine; tests/connectors/test_third_party.py is about the rule."""


@pytest.fixture
def fetch(naps):
    with ImageFetcher(OWN, sleep=naps, jitter=lambda: 1.0, read_timeout=0.3, response_timeout=0.6) as fetcher:
        yield fetcher


def reason(fetch, url):
    with pytest.raises(BadImage) as failed:
        fetch(url)
    assert "s3cr3t" not in str(failed.value)
    return failed.value.message


def test_the_bytes_as_they_are_without_any_credentials(service, fetch, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cr3t\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    service.answers(b"\xff\xd8 image")
    assert fetch(f"{service.url}/a b.jpg?size=2&x=%20") == b"\xff\xd8 image"
    asked = service.asked[0]
    assert (asked.path, asked.query) == ("/api/a%20b.jpg", {"size": "2", "x": " "})
    assert asked.headers["Accept"] == "image/*"
    assert not {"Authorization", "Cookie", "api-key"} & asked.headers.keys()


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there(service, fetch, status):
    service.answers(b"s3cr3t", status=status)
    with pytest.raises(BadImage) as failed:
        fetch(f"{service.url}/a.jpg?sig=s3cr3t&v=s3cr3t")
    assert failed.value.message == f"the image does not exist ({status})"
    assert failed.value.where == {"address": f"{service.url}/a.jpg"}
    assert len(service.asked) == 1


def test_what_is_refused(service, fetch):
    service.answers(status=403).answers(status=400)
    assert reason(fetch, f"{service.url}/a.jpg") == "access to the image is refused (401 or 403)"
    assert reason(fetch, f"{service.url}/a.jpg") == "the image cannot be fetched (400)"


def test_it_waits_as_long_as_it_is_told_if_that_is_short(service, fetch, naps):
    service.answers(status=429, headers={"Retry-After": "4"}).answers(b"image")
    assert fetch(f"{service.url}/a.jpg") == b"image"
    assert naps == [4]
    service.asked.clear()
    service.script.clear()
    service.answers(status=503, headers={"Retry-After": "60"})
    with pytest.raises(RateLimited) as failed:
        fetch(f"{service.url}/a.jpg")
    assert failed.value.retry_after == 60
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "fault",
    [
        lambda s: s.hangs(),
        lambda s: s.hangs_up(),
        lambda s: s.trickles(pause=0.05),
        lambda s: s.answers(b"down", status=502),
        lambda s: s.answers(b"image", cut=3),
    ],
)
def test_a_host_that_does_not_answer(service, fetch, fault, caplog):
    caplog.set_level(logging.DEBUG)
    fault(service)
    with pytest.raises(ServiceUnavailable) as failed:
        fetch(f"{service.url}/a.jpg?v=s3cr3t")
    assert failed.value.message == "the host of the image does not respond"
    assert "a.jpg?***" in str(failed.value)
    assert "s3cr3t" not in str(failed.value)
    assert len(service.asked) == 3


def test_nobody_listens(fetch):
    with pytest.raises(ServiceUnavailable, match="does not respond"):
        fetch("http://127.0.0.1:9/a.jpg")


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large(service, naps, chunked):
    service.answers(b"x" * 2_000_001, chunked=chunked)
    with ImageFetcher(OWN, sleep=naps, max_body_bytes=2_000_000) as fetch:
        assert reason(fetch, f"{service.url}/a.jpg?v=s3cr3t") == "the image has more than 2 MB"
        service.script[:] = []
        service.answers(b"x" * 2_000_000)
        assert len(fetch(f"{service.url}/a.jpg")) == 2_000_000


class TestRedirects:
    def test_within_the_host_and_to_another(self, service, mirror, fetch):
        service.answers(status=302, headers={"Location": "/api/b.jpg", "Set-Cookie": "session=s3cr3t"})
        service.answers(status=301, headers={"Location": f"{mirror.url}/c.jpg?v=1"})
        mirror.answers(b"image")
        assert fetch(f"{service.url}/a.jpg") == b"image"
        assert mirror.asked[0].path == "/api/c.jpg"
        assert "Cookie" not in mirror.asked[0].headers

    def test_in_circles(self, service, mirror, fetch):
        service.answers(status=302, headers={"Location": f"{mirror.url}/a.jpg"})
        mirror.answers(status=302, headers={"Location": f"{service.url}/a.jpg"})
        assert reason(fetch, f"{service.url}/a.jpg") == "the image redirects more than 5 times"
        assert len(service.asked) + len(mirror.asked) == 6

    def test_in_circles_within_a_host(self, service, fetch):
        service.answers(status=302, headers={"Location": "/api/a.jpg"})
        assert reason(fetch, f"{service.url}/a.jpg") == "the image cannot be fetched (302)"

    @pytest.mark.parametrize("target", ["ftp://127.0.0.1/a.jpg", "file:///etc/passwd", "gopher:x"])
    def test_to_something_else(self, service, fetch, target):
        service.answers(status=302, headers={"Location": target})
        assert (
            reason(fetch, f"{service.url}/a.jpg") == "the address of the image does not start with http:// or https://"
        )

    def test_to_an_address_with_credentials(self, service, mirror, fetch):
        service.answers(status=302, headers={"Location": mirror.url.replace("http://", "http://me:s3cr3t@") + "/a.jpg"})
        assert reason(fetch, f"{service.url}/a.jpg") == "the address of the image has credentials in it"


@pytest.mark.parametrize(
    "url", ["", "a.jpg", "/a.jpg", "ftp://host/a.jpg", "file:///etc/passwd", "http://", "http://a b/", "data:,x"]
)
def test_no_address_of_a_image(fetch, url):
    assert reason(fetch, url).startswith("the address of the image ")


def test_the_number_of_connectors_is_bounded(service, fetch):
    service.answers(b"x")
    for number in range(MAX_ORIGINS + 3):
        assert fetch(f"http://127.0.0.1:{service.port}/{number}") == b"x"
    assert len(fetch._connectors) == 1
    fetch._connectors.clear()
    for number in range(MAX_ORIGINS + 3):
        fetch._connector(f"http://127.0.0.1:{9000 + number}")
    assert len(fetch._connectors) == MAX_ORIGINS

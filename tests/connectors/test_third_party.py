"""Where URLs that a third party supplied may lead, over real sockets; names are resolved by an argument."""

import contextlib
import socket
import ssl
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer

import pytest

from include.connectors.http import HttpConnector
from include.connectors.images import ImageFetcher
from include.connectors.third_party import ThirdPartyRule, is_same_service, kind_of_address, resolve
from include.errors import BadImage, ServiceUnavailable, Unreachable, UntrustedUrl
from tests.connectors.conftest import serving

SETTING = '"allow_private_networks": true in the extra of the Airflow connection shop_api'


class Names(dict):
    """A resolver: each name has a list of answers, of which the last one is repeated; notes what it was asked for."""

    def __init__(self, **answers):
        super().__init__({name.replace("_", "."): answer for name, answer in answers.items()})
        self.asked = []

    def __call__(self, host, port):
        self.asked.append(host)
        if host not in self:
            return resolve(host, port) if ":" in host or host[0].isdigit() else self.unknown(host)
        answers = self[host]
        return [answers.pop(0) if len(answers) > 1 else answers[0]]

    def unknown(self, host):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def public_here(address):
    """Take 127.0.0.1 and ::1 for public, since the public host of a test is on this machine."""
    return "" if address in ("127.0.0.1", "::1") else kind_of_address(address)


@pytest.fixture
def fetcher(naps):
    """Make fetchers whose resolver is an argument; 127.0.0.1 is public unless `kind_of` says otherwise."""
    made = []

    def make(names=None, **rule):
        rule = ThirdPartyRule("shop_api", **{"resolve": names or Names(), "kind_of": public_here, **rule})
        made.append(ImageFetcher(rule, sleep=naps, jitter=lambda: 1.0, attempts=2))
        return made[-1]

    yield make
    for one in made:
        one.close()


# ---------------------------------------------------------------- addresses


NOT_PUBLIC = {
    "a loopback address": "127.0.0.1 127.255.255.254 ::1 ::ffff:127.0.0.1 2002:7f00:1::",
    "a private address": "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 fd00:ec2::254 fec0::1 2002:a00:1:: "
    "64:ff9b::10.0.0.1",
    "a link-local address": "169.254.169.254 fe80::1 fe80::1%eth0 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe",
    "a shared address (carrier-grade NAT)": "100.64.0.1 100.100.100.200",
    "an unspecified address": "0.0.0.0 0.1.2.3 ::",
    "a multicast address": "224.0.0.1 ff02::1",
    "a reserved address": "255.255.255.255 240.0.0.1 192.0.0.192 192.88.99.1 198.18.0.1 203.0.113.7 2001:db8::1 "
    "2001::1 3fff::1 5f00::1 64:ff9b:1::1 ::127.0.0.1",
    "the platform address of Azure": "168.63.129.16",
}


@pytest.mark.parametrize(
    ("address", "kind"), [(address, kind) for kind, some in NOT_PUBLIC.items() for address in some.split()]
)
def test_an_address_that_is_not_public(address, kind):
    assert kind_of_address(address) == kind


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "172.15.255.255", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_an_address_that_is_public(address):
    assert kind_of_address(address) == ""


# ---------------------------------------------------------------- hosts


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]",
        "localhost", "LOCALHOST", "localhost.", "a.localhost", "a.localhost.", "[::ffff:7f00:1]", "127.0.0.1.",
    ],
)  # fmt: skip
def test_no_spelling_of_this_machine_is_asked(service, fetcher, host):
    service.answers(b"secret")
    fetch = fetcher(kind_of=kind_of_address, resolve=resolve)
    with pytest.raises(BadImage) as failed:
        fetch(f"http://{host}:{service.port}/a.jpg")
    assert service.asked == []
    assert service.connections == 0
    assert SETTING in failed.value.message or "cannot be" in failed.value.message


@pytest.mark.parametrize("url", ["http://good.example@{host}/", "http://good.example:80@{host}/", "http://@{host}/"])
def test_a_user_in_the_address_does_not_hide_the_host(service, fetcher, url):
    service.answers(b"secret")
    with pytest.raises(BadImage):
        fetcher(kind_of=kind_of_address)(url.format(host=f"127.0.0.1:{service.port}"))
    assert service.connections == 0


@pytest.mark.parametrize("address", ["10.1.2.3", "169.254.169.254", "fd00:ec2::254", "::ffff:10.0.0.1"])
def test_the_error_says_host_address_reason_connection_and_setting(fetcher, address):
    with pytest.raises(BadImage) as failed:
        fetcher(Names(images_example=[address]))("http://images.example/a.jpg?sig=s3cr3t")
    kind = kind_of_address(address)
    assert f"images.example resolves to {address}, {kind}" in failed.value.message
    assert SETTING in failed.value.message
    assert failed.value.where == {"address": "http://images.example/a.jpg"}


def test_one_private_address_among_public_ones_is_enough():
    rule = ThirdPartyRule(resolve=lambda host, port: ["127.0.0.1", "10.0.0.1"], kind_of=public_here)
    with pytest.raises(UntrustedUrl, match=r"resolves to 10\.0\.0\.1, a private address"):
        rule.addresses("images.example", 80)


def test_a_public_host_is_asked_by_its_name(service, fetcher):
    service.answers(b"image")
    names = Names(images_example=["127.0.0.1"])
    assert fetcher(names)(f"http://images.example:{service.port}/a.jpg") == b"image"
    assert service.asked[0].headers["Host"] == f"images.example:{service.port}"
    assert names.asked == ["images.example"]


def test_a_name_that_resolves_differently_a_moment_later_changes_nothing(service, fetcher):
    service.answers(b"image")
    names = Names(images_example=["127.0.0.1", "169.254.169.254"])
    fetch = fetcher(names)
    url = f"http://images.example:{service.port}/a.jpg"
    assert fetch(url) == b"image"
    assert fetch(url) == b"image"  # over the same connection
    assert (names.asked, service.connections) == (["images.example"], 1)
    fetch.close()
    with pytest.raises(BadImage, match=r"resolves to 169\.254\.169\.254, a link-local address"):
        fetch(url)
    assert service.connections == 1


def test_the_next_address_is_tried_when_one_does_not_respond(service, fetcher):
    service.answers(b"image")
    fetch = fetcher(resolve=lambda host, port: ["::1", "127.0.0.1"])
    assert fetch(f"http://images.example:{service.port}/a.jpg") == b"image"


def test_a_host_that_is_unknown_is_not_retried_for_long(fetcher, naps):
    with pytest.raises(BadImage, match="host of the image cannot be reached") as failed:
        fetcher()("http://nowhere.example/a.jpg")
    assert "the host nowhere.example is unknown" in str(failed.value)
    assert naps == [1.0]


def test_a_host_that_cannot_be_resolved_at_the_moment_is_retried(fetcher, naps):
    def busy(host, port):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.raises(ServiceUnavailable):
        fetcher(resolve=busy)("http://images.example/a.jpg")
    assert naps == [1.0]


@pytest.fixture
def ipv6():
    """A service on ::1; gives its port."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6

    with contextlib.ExitStack() as stack:
        try:
            service = stack.enter_context(serving(Server, "::1"))
        except OSError:
            pytest.skip("there is no IPv6 here")
        yield service.answers(b"six!").port


def test_over_ipv6_by_name_and_by_address(ipv6, fetcher):
    fetch = fetcher(Names(images_example=["::1"]))
    assert fetch(f"http://images.example:{ipv6}/a.jpg") == b"six!"
    assert fetch(f"http://[::1]:{ipv6}/a.jpg") == b"six!"
    with pytest.raises(BadImage, match="::1 is a loopback address"):
        fetcher(kind_of=kind_of_address)(f"http://[::1]:{ipv6}/a.jpg")


# ---------------------------------------------------------------- redirects


@pytest.mark.parametrize("target", ["http://inside.example/", "http://169.254.169.254/", "http://localhost:{port}/x"])
def test_a_redirect_into_a_private_network_is_not_followed(service, mirror, fetcher, target):
    location = target.format(port=mirror.port)
    service.answers(status=302, headers={"Location": location})
    mirror.answers(b"secret")
    fetch = fetcher(Names(images_example=["127.0.0.1"], inside_example=["10.0.0.8"]))
    with pytest.raises(BadImage, match="may lead to public addresses only"):
        fetch(f"http://images.example:{service.port}/a.jpg")
    assert (len(service.asked), mirror.connections) == (1, 0)


def test_every_hop_of_a_chain_is_checked(service, mirror, fetcher):
    port, other = service.port, mirror.port
    service.answers(status=301, headers={"Location": f"http://b.example:{other}/"})
    mirror.answers(status=307, headers={"Location": f"http://c.example:{port}/"})
    names = Names(a_example=["127.0.0.1"], b_example=["127.0.0.1"], c_example=["192.168.0.9"])
    with pytest.raises(BadImage, match=r"c\.example resolves to 192\.168\.0\.9"):
        fetcher(names)(f"http://a.example:{port}/")
    assert (len(service.asked), len(mirror.asked)) == (1, 1)


def test_a_link_to_the_next_page_stays_on_the_service(service, mirror, connect):
    service.answers(b"page 2")
    connector = connect(headers={"X-Api-Key": "k3y"}, conn_id="shop_api")
    assert connector.get(f"{service.url}/items?page=2", decode=bytes).value == b"page 2"
    assert (service.asked[0].path, service.asked[0].query) == ("/api/items", {"page": "2"})
    for link in (
        f"{mirror.url}/items?page=3&token=t0ken",
        "HTTPS://evil.example/",
        f"http://localhost:{service.port}/",
    ):
        with pytest.raises(UntrustedUrl, match="link to another service") as refused:
            connector.get(link, decode=bytes)
        assert "t0ken" not in str(refused.value)
    assert mirror.connections == 0


# ---------------------------------------------------------------- the operator's own


def test_the_host_and_port_of_the_connection_are_allowed_anywhere(service, mirror, fetcher):
    service.answers(b"image")
    fetch = fetcher(kind_of=kind_of_address, own_urls=(f"{service.url}/stocks",))
    assert fetch(f"http://127.0.0.1:{service.port}/a.jpg") == b"image"
    with pytest.raises(BadImage, match=r"127\.0\.0\.1 is a loopback address"):
        fetch(f"http://127.0.0.1:{mirror.port}/a.jpg")
    assert mirror.connections == 0


def test_the_own_host_may_not_redirect_elsewhere_inside(service, mirror, fetcher):
    service.answers(status=302, headers={"Location": f"{mirror.url}/a.jpg"})
    with pytest.raises(BadImage, match="is a loopback address"):
        fetcher(kind_of=kind_of_address, own_urls=(service.url,))(f"{service.url}/a.jpg")
    assert mirror.connections == 0


def test_private_networks_can_be_allowed(service, mirror, fetcher):
    service.answers(status=302, headers={"Location": f"{mirror.url}/a.jpg"})
    mirror.answers(b"image")
    assert fetcher(kind_of=kind_of_address, allow_private_networks=True)(f"{service.url}/a.jpg") == b"image"


def test_a_connector_gives_the_rule_of_its_connection(service):
    with HttpConnector(service.url, conn_id="shop_api", mirrors=["http://mirror.example"]) as connector:
        rule = connector.third_party
    assert rule.conn_id == "shop_api"
    assert rule.is_exempt(f"{service.url}/deeper")
    assert rule.is_exempt("http://mirror.example/a.jpg")
    assert not rule.is_exempt("http://127.0.0.1:1/")
    with HttpConnector(service.url, allow_private_networks=True) as connector:
        assert connector.third_party.is_exempt("http://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("http://a.example/x", "http://A.example:80/y", True),
        ("http://a.example/x", "https://a.example/y", True),
        ("https://a.example/", "http://a.example/", False),
        ("http://a.example:8080/", "https://a.example/", False),
        ("http://a.example/", "http://a.example:8080/", False),
        ("http://a.example/", "http://a.example@evil.example/", False),
        ("http://a.example/", "http://a.example.evil.example/", False),
        ("http://a.example/", "http://[", False),
    ],
)
def test_a_user_or_another_port_is_not_the_same_service(old, new, is_same):
    assert is_same_service(old, new) is is_same


# ---------------------------------------------------------------- proxies


@pytest.fixture
def proxy(service, monkeypatch):
    """The service plays a proxy of the environment."""
    monkeypatch.setenv("http_proxy", service.url.removesuffix("/api"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    return service.answers(b"image")


def test_behind_a_proxy_a_private_address_is_refused_before_it_is_asked(proxy, fetcher):
    fetch = fetcher(Names(inside_example=["10.0.0.8"]))
    for url in ("http://inside.example/a.jpg", "http://169.254.169.254/", "http://localhost/"):
        with pytest.raises(BadImage, match="may lead to public addresses only"):
            fetch(url)
    assert proxy.connections == 0


@pytest.mark.parametrize("names", [{"images_example": ["8.8.8.8"]}, {}], ids=["public", "known to the proxy only"])
def test_behind_a_proxy_the_proxy_connects(proxy, fetcher, names):
    assert fetcher(Names(**names))("http://images.example/a.jpg") == b"image"
    assert proxy.asked[0].headers["Host"] == "images.example"


# ---------------------------------------------------------------- TLS


@pytest.fixture
def tls(tmp_path, monkeypatch):
    """A service with a trusted certificate for images.example; gives it and the names in its handshakes."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "images.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("images.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
    seen = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    context.sni_callback = lambda sock, asked, ctx: seen.append(asked)

    class Server(ThreadingHTTPServer):
        def get_request(self):
            connection, address = super().get_request()
            return context.wrap_socket(connection, server_side=True), address

        def handle_error(self, request, client_address):
            pass  # a client that does not trust it

    with serving(Server) as service:
        yield service.answers(b"tls"), seen


def test_the_certificate_is_checked_for_the_name_and_not_for_the_address(tls, fetcher):
    service, seen = tls
    fetch = fetcher(Names(images_example=["127.0.0.1"], other_example=["127.0.0.1"]))
    assert fetch(f"https://images.example:{service.port}/a.jpg") == b"tls"
    assert (seen, service.asked[0].headers["Host"]) == (["images.example"], f"images.example:{service.port}")
    with pytest.raises(BadImage, match="host of the image cannot be reached") as failed:
        fetch(f"https://other.example:{service.port}/a.jpg")
    assert "the certificate of other.example cannot be verified" in str(failed.value)


def test_a_certificate_that_cannot_be_verified_is_said_as_such(tls, connect, monkeypatch, naps):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(Unreachable, match=r"certificate of 127\.0\.0\.1 cannot be verified \(self.signed certificate"):
        connect(f"https://127.0.0.1:{tls[0].port}/", conn_id="shop_api").get(decode=bytes)
    assert naps == [1.0]


def test_https_to_a_service_without_it_is_said_as_such(service, connect):
    with pytest.raises(Unreachable, match=r"does not speak TLS .* of the Airflow connection shop_api"):
        connect(service.url.replace("http://", "https://"), conn_id="shop_api").get(decode=bytes)

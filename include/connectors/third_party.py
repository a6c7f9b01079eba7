"""Where URLs supplied by a third party may lead: an image in a listing, a redirect, the next page.

Without a rule, the author of a listing could make a worker read what only the worker's network can reach, such as the
credentials that a cloud serves at 169.254.169.254
(https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html). Such a URL
may lead to a public address, or to the host and port of the Airflow connection itself, which the operator chose. The
extra `allow_private_networks: true` of the connection lifts the rule for services in the operator's own network.

A host is resolved once per connection, and the connection is made to the checked addresses: a name that resolves
differently a moment later (DNS rebinding) has no effect. `Host`, SNI and the certificate check use the name.

Behind a proxy of the environment, the proxy resolves the name and connects. The name is then resolved here as well, and
refused if it leads into a private network; a name that only the proxy can resolve is subject to the proxy's own
rules.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError
from urllib3.util import Url, parse_url

from include.errors import UntrustedUrl

Resolver = Callable[[str, int], Sequence[str]]
"""Called with a host and a port, returns its addresses in the order to try, or raises `socket.gaierror`."""

DEFAULT_PORTS = {"http": 80, "https": 443}
NAT64 = ip_network("64:ff9b::/96")
ALLOCATED_IPV6 = ip_network("2000::/3")
NOT_PUBLIC = {
    "a loopback address": "127.0.0.0/8 ::1/128",
    "a link-local address": "169.254.0.0/16 fe80::/10",
    "a private address": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 fec0::/10",
    "a shared address (carrier-grade NAT)": "100.64.0.0/10",
    "an unspecified address": "0.0.0.0/8 ::/128",
    "a multicast address": "224.0.0.0/4 ff00::/8",
    "the platform address of Azure": "168.63.129.16/32",
    "a reserved address": "192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 "
    "240.0.0.0/4 2001::/23 2001:db8::/32 3fff::/20",
}
"""https://www.iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry. `is_global` of Python
3.11.7 reports some of them as public."""
_NETWORKS = [(kind, ip_network(network)) for kind, networks in NOT_PUBLIC.items() for network in networks.split()]


def resolve(host: str, port: int) -> list[str]:
    """Resolve a host as the system does."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def kind_of_address(address: str) -> str:
    """Return the kind of an address to which a third party's URL may not lead (`a private address` …), else "".

    An IPv4 address inside an IPv6 address (mapped, 6to4, NAT64) counts as that IPv4 address.
    """
    ip = _unwrapped(ip_address(address.partition("%")[0]))
    kind = next((kind for kind, network in _NETWORKS if ip in network), "")
    if not kind and (not ip.is_global or (ip.version == 6 and ip not in ALLOCATED_IPV6)):
        return "a reserved address"
    return kind


def _unwrapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(ip, IPv4Address):
        return ip
    if ip in NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


@dataclass(frozen=True, slots=True)
class ThirdPartyRule:
    """The rule for the URLs that one service supplies.

    - `own_urls` are the addresses of the Airflow connection `conn_id`: their hosts and ports are allowed anywhere.
    - `allow_private_networks` is the setting of that name in the connection's extra.
    - `resolve` and `kind_of` are arguments for tests.
    """

    conn_id: str = ""
    own_urls: tuple[str, ...] = ()
    allow_private_networks: bool = False
    resolve: Resolver = resolve
    kind_of: Callable[[str], str] = kind_of_address

    def is_exempt(self, url: str) -> bool:
        """Whether a URL needs no check: it leads to the connection's own host and port, or all is allowed."""
        return self.allow_private_networks or any(is_same_service(own, url) for own in self.own_urls)

    def addresses(self, host: str, port: int) -> list[str]:
        """Resolve a host once, and return its addresses.

        Raises:
            UntrustedUrl: one of them is not public.
            socket.gaierror: the host cannot be resolved.
        """
        name = host.strip("[]")
        if name.rstrip(".").lower().rpartition(".")[2] == "localhost":
            raise self._refused(f"{name} is this machine")
        found = list(self.resolve(name, port))
        for address in found:
            if kind := self.kind_of(address):
                led = f"{name} is" if name == address else f"{name} resolves to {address},"
                raise self._refused(f"{led} {kind}")
        return found

    def _refused(self, why: str) -> UntrustedUrl:
        place = f"the Airflow connection {self.conn_id}" if self.conn_id else "the provider's Airflow connection"
        return UntrustedUrl(
            f"{why}, and a URL that the service supplied may lead to public addresses only. If this host is your own, "
            f'set "allow_private_networks": true in the extra of {place}'
        )


class PinnedAdapter(HTTPAdapter):
    """Connects only to addresses that a `ThirdPartyRule` allows, and to exactly the address that was checked."""

    def __init__(self, rule: ThirdPartyRule, **options: Any) -> None:
        self._rule = rule
        super().__init__(**options)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Use pools whose connections go to checked addresses."""
        super().init_poolmanager(*args, **options)
        pools = (urllib3.HTTPConnectionPool, urllib3.HTTPSConnectionPool)
        self.poolmanager.pool_classes_by_scheme = {pool.scheme: _pinned(pool, self._rule) for pool in pools}

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send a request. Behind a proxy, first check the name if it can be resolved here."""
        if select_proxy(request.url or "", options.get("proxies")):
            parsed = parse_url(request.url or "")
            with contextlib.suppress(socket.gaierror):  # only the proxy can resolve it
                self._rule.addresses(parsed.host or "", _port(parsed))
        return super().send(request, *args, **options)


def _pinned(pool_class: Any, rule: ThirdPartyRule) -> Any:
    """Return a pool class whose connections resolve their host once, and check it by the rule."""

    class PinnedConnection(pool_class.ConnectionCls):  # type: ignore[misc]
        _dns_host: str
        """The host that urllib3 connects to. Outside of this method it is the name, used for `Host` and SNI."""

        def _new_conn(self) -> socket.socket:
            name = self._dns_host
            try:
                addresses = rule.addresses(name, self.port)
            except socket.gaierror as error:
                raise NameResolutionError(self.host, self, error) from error
            failure: Exception = NewConnectionError(self, f"{name} has no address")
            try:
                for address in addresses:
                    self._dns_host = address
                    try:
                        connected: socket.socket = super()._new_conn()
                    except (NewConnectionError, ConnectTimeoutError) as error:
                        failure = error
                    else:
                        return connected
                raise failure
            finally:
                self._dns_host = name
                del failure  # a frame that refers to the error it raises would keep itself alive

    class PinnedPool(pool_class):  # type: ignore[misc]
        ConnectionCls = PinnedConnection

    return PinnedPool


def is_same_service(old: str, new: str) -> bool:
    """Compare scheme, host and port as urllib3 parses them, since it connects. A step from http to https is allowed."""
    try:
        a, b = parse_url(old), parse_url(new)
    except LocationParseError:
        return False
    before, after = (a.scheme, _port(a)), (b.scheme, _port(b))
    return a.host == b.host and (before == after or (before, after) == (("http", 80), ("https", 443)))


def _port(url: Url) -> int:
    return url.port or DEFAULT_PORTS.get(url.scheme or "", 0)

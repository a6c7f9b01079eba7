"""What PagedProvider does for every paged source, over a connector in memory."""

from datetime import UTC, datetime

import msgspec
import pytest

from include.connectors.decoding import PageDecoder, Rejected
from include.connectors.http import Response
from include.connectors.pagination import KeysetPaginator
from include.errors import AccessRefused, ConfigurationError, PaginationError, RejectRecord, RequestRefused
from include.models import Product, VenueLink
from include.providers.paged import PagedProvider

LINK = VenueLink(1, 1, "hall-1")


class Event(msgspec.Struct):
    id: str


class Events(msgspec.Struct):
    events: list[Event | Rejected]
    total: int | None = None


class Billets(PagedProvider[Event]):
    name = "Billets"
    can_create = True
    conn_id = "billets_api"
    path = "events"
    decode = PageDecoder(Events, Event, "events", empty=Events([]))
    key_prefix = "billets:"
    key_field = cursor_field = "id"

    def paginator(self):
        return KeysetPaginator(records="events", total="total", key="id", size=2, start=self.resume_from)

    def describe(self, record):
        return [self.create_providable_info(Product, f"{self.key_prefix}{record.id}")]

    def fill_object_attributes(self, obj):
        pass


class Service:
    """Lists the rows after a key; stands in for a connector."""

    def __init__(self, rows, *, total=None, status=200, error=None):
        self.rows, self.total, self.status, self.error = rows, total, status, error
        self.requests = []

    def get(self, path, params, *, decode):
        self.requests.append((path, params))
        if self.error:
            raise self.error
        rows = [row for row in self.rows if row[0] > params.get("after", "")][: params["limit"]]
        total = b"null" if self.total is None else b"%d" % self.total
        body = b'{"events":[%b],"total":%b}' % (b",".join(row[1] for row in rows), total)
        return Response(decode(body), datetime.now(UTC), self.status, len(body))


def good(*keys):
    return [(key, b'{"id":"%b"}' % key.encode()) for key in keys]


@pytest.fixture
def opened():
    """A function that opens a provider on a service."""
    providers = []

    def open_on(service, **attributes):
        providers.append(Billets(LINK, service))
        for name, value in attributes.items():
            setattr(providers[-1], name, value)
        providers[-1].open()
        return providers[-1]

    yield open_on
    for provider in providers:
        provider.close()


def test_records_of_all_pages_are_described(opened):
    provider = opened(Service(good("a", "b", "c"), total=3))
    assert [infos[0].id_at_providers for infos in provider] == ["billets:a", "billets:b", "billets:c"]
    assert provider.cursor == "c"
    assert provider.connector.requests[-1] == ("events", {"limit": 2, "after": "c"})


def test_it_resumes_after_the_cursor(opened):
    provider = opened(Service(good("a", "b", "c")), resume_from="b")
    assert [infos[0].id_at_providers for infos in provider] == ["billets:c"]


def test_records_of_a_page_that_ends_in_an_error_are_not_lost(opened):
    provider = opened(Service(good("a", "b"), total=9))
    assert [next(provider)[0].id_at_providers for _ in range(2)] == ["billets:a", "billets:b"]
    with pytest.raises(PaginationError, match="page 2 is empty after 2 rows"):
        next(provider)


@pytest.mark.parametrize(
    ("raw", "reference"),
    [
        (b'{"id":"b","id":3}', "billets:3"),
        (b'{"id":7}', "billets:7"),
        (b'{"id":""}', None),
        (b'{"id":null}', None),
        (b'{"title":"x"}', None),
        (b'"nothing"', None),
    ],
)
def test_a_rejected_record_has_the_start_of_its_keys_as_its_reference(raw, reference):
    assert Billets(LINK).reference(raw) == reference


def test_a_rejected_record_is_raised_with_its_reference(opened):
    provider = opened(Service([*good("a"), ("b", b'{"id":5}')]))
    next(provider)
    with pytest.raises(RejectRecord, match="id: Expected `str`, got `int`") as rejected:
        next(provider)
    assert rejected.value.reference == "billets:5"


def test_without_a_key_field_there_is_no_reference_and_without_a_cursor_field_no_cursor(monkeypatch):
    monkeypatch.setattr(Billets, "key_field", "")
    monkeypatch.setattr(Billets, "cursor_field", "")
    provider = Billets(LINK)
    provider.record = Event("a")
    assert provider.reference(b'{"id":"a"}') is None
    assert provider.cursor is None


def test_one_record_is_decoded_by_itself():
    assert Billets(LINK).decode_record(b'{"id":"a"}') == Event("a")
    with pytest.raises(RejectRecord, match="id: required, but missing"):
        Billets(LINK).decode_record(b"{}")


def test_a_link_is_checked_by_one_record():
    service = Service(good("a", "b"))
    Billets(LINK, service).check_link()
    assert service.requests == [("events", {"limit": 1})]


UNKNOWN = RequestRefused("404", status=404)


@pytest.mark.parametrize(
    ("link", "service", "error", "message"),
    [
        (LINK, Service([], error=UNKNOWN), ConfigurationError, "Billets does not know hall-1: check the id, or the"),
        (LINK, Service([], status=204), ConfigurationError, "Billets does not know hall-1: check the id, or the"),
        (None, Service([], error=UNKNOWN), RequestRefused, "404"),  # a register: no matter of a venue
        (LINK, Service([], error=AccessRefused("401")), AccessRefused, "401"),
    ],
)
def test_a_link_that_does_not_pass_the_check(link, service, error, message):
    with pytest.raises(error, match=message):
        Billets(link, service).check_link()


def test_settings_that_nobody_reads_are_refused():
    service = Service(good("a"))
    with pytest.raises(ConfigurationError, match="Billets has no settings: leave out price, rooms"):
        Billets(VenueLink(1, 1, "hall-1", settings={"rooms": 1, "price": 2}), service).check_link()
    assert service.requests == []

"""The sending of orders in the benchmarks: every contender sends what the orders say, or it is noticed."""

import pytest
import requests

from bench import soak
from bench.__main__ import NAMES, PARTS, arguments
from bench.database import attached
from bench.measuring import Measured
from bench.outbound import data, rounds, soak_kills, soak_outage, soak_size, soak_twins, standin
from bench.outbound.results import OutboundResults, part
from bench.outbound.rounds import CONTENDERS, Arena, Outcome, check_queue
from bench.outbound.standin import WrongObjects
from bench.outbound.task import ALL, NONE
from bench.tables import put


@pytest.fixture(scope="module")
def running():
    with standin.running() as service:
        yield service


@pytest.fixture
def service(running):
    running.forget()
    running.ask("POST", "/up")
    return running


@pytest.fixture
def held(postgres, database):
    with attached(database) as attached_to:
        yield attached_to
        attached_to.connection.execute("DROP TABLE IF EXISTS plain_result")


def send(service, orders, *, but=()):
    for path, fields in data.objects(orders):
        if path not in but:
            requests.post(f"{service.url}{path}", json=fields, timeout=10).raise_for_status()


def test_every_contender_sends_what_the_orders_say(service, held, tmp_path):
    told = []
    rounds.play(service, held, CONTENDERS, Arena(100, 1.0), folder=tmp_path, tell=told.append)
    assert [(each.contender, each.phase, each.orders) for each in told] == [
        (name, phase, orders)
        for name, orders in (("drain", 100), ("drain-twins", 100), ("plain-loop", 20))
        for phase in (ALL, NONE)
    ]
    assert all(each.measured.seconds > 0 and 0 < each.database_ms < 100 for each in told)


def test_the_state_of_the_target_tells_what_came(service):
    send(service, 2)
    assert service.check(2).calls == 6
    send(service, 1)
    with pytest.raises(WrongObjects, match="again"):
        service.check(2)
    assert service.check(2, most_again=3).again == 3
    with pytest.raises(WrongObjects, match="got 9 calls"):
        service.check_quiet()
    service.forget()
    service.check_quiet()


def test_a_missing_or_wrong_object_is_noticed(service):
    send(service, 2, but={"/attendee/A2-1"})
    with pytest.raises(WrongObjects):
        service.check(2)
    requests.post(f"{service.url}/attendee/A2-1", json={"NAME": "?"}, timeout=10)
    with pytest.raises(WrongObjects):
        service.check(2)


def test_an_object_that_changed_on_the_way_is_noticed(service):
    requests.post(f"{service.url}/buyer/A1", json={"EMAIL": "?"}, timeout=10)
    send(service, 1)
    with pytest.raises(WrongObjects, match="changed=1"):
        service.check(1, most_again=10)


def test_a_target_that_is_down_takes_nothing(service):
    service.ask("POST", "/down")
    assert requests.post(f"{service.url}/buyer/A1", json={}, timeout=10).status_code == 503
    assert (service.state().refused, service.state().calls) == (1, 0)
    service.ask("POST", "/up")
    assert requests.post(f"{service.url}/wait/1/buyer/A1", json={}, timeout=10).ok
    assert requests.get(f"{service.url}/buyer", timeout=10).status_code == 404


def test_what_is_left_in_the_queue_is_noticed(held):
    data.fill(held.connection, 3)
    check_queue(held.connection)
    data.queue(held.connection, at_most=2)
    with pytest.raises(WrongObjects, match="2"):
        check_queue(held.connection)


def test_a_run_that_does_nothing_is_noticed(service, held, tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "measure", lambda *_: Measured(0.1, 0.1, 10, 1))
    with pytest.raises(WrongObjects):
        rounds.play(service, held, CONTENDERS[:1], Arena(5, 0.0), folder=tmp_path, tell=lambda _: None)


def outcome(name, phase, seconds, latency=0.0, orders=1000):
    return Outcome(Arena(1000, latency), name, phase, orders, Measured(seconds, seconds, 50, 5), seconds / 2)


def test_medians_are_compared_with_the_plain_loop():
    measured = [
        *(outcome("drain", phase, seconds) for phase in (ALL, NONE) for seconds in (1.0, 2.0, 9.0)),
        *(outcome("plain-loop", phase, 8.0) for phase in (ALL, NONE)),
        *(outcome("drain", phase, 1.0, latency=50.0) for phase in (ALL, NONE)),
        *(outcome("plain-loop", phase, 1.8, latency=50.0, orders=200) for phase in (ALL, NONE)),
    ]
    results = OutboundResults(measured)
    page = part(results, "18.1")
    assert page.startswith("## Sending orders to a target")
    assert "3 rounds" in page
    assert "| 1,000 orders, at once | this project | 500 | 500 | 4.00 / 4.00 | 2.00 / 2.00 | 1.00 / 1.00 |" in page
    assert "a plain loop (200 orders) | 111 | 111 | 1.00 / 1.00 |" in page
    assert [is_reached for _, _, _, is_reached in results.aims()] == [True, False]


def test_the_page_keeps_its_other_parts(tmp_path):
    page = tmp_path / "results.md"
    for text in ("## Sending orders to a target\n\na", "# Benchmarks\n\nb", "## Patching a search index\n\nc"):
        put(page, text)
    put(page, "## Sending orders to a target\n\nd")
    assert page.read_text() == (
        "# Benchmarks\n\nb\n\n## Patching a search index\n\nc\n\n## Sending orders to a target\n\nd\n"
    )


def test_the_part_can_be_chosen():
    assert arguments(["outbound"]).what == ["outbound"]
    assert "outbound" in PARTS
    assert not NAMES["outbound"] & (NAMES["inbound"] | NAMES["search"])


class _Given:
    """A context manager around what is there already."""

    def __init__(self, value):
        self.value = value

    def __enter__(self):
        return self.value

    def __exit__(self, *_):
        return None


def test_the_soak_of_sizes_looks_at_memory_and_objects(tmp_path, capsys, monkeypatch, held):
    monkeypatch.setattr(soak_size.database, "running", lambda _: _Given(held))
    assert soak.main(["outbound-size", "--orders", "300", "600", "--folder", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "Memory is flat" in told
    assert "600 orders, unchanged" in told
    monkeypatch.setattr(soak_size.data, "checksum", lambda _: 1)
    assert soak.main(["outbound-size", "--orders", "10", "--folder", str(tmp_path)]) == 1
    assert "Wrong: " in capsys.readouterr().out


def test_memory_that_grows_is_noticed(capsys):
    small, large = Measured(1, 1, 50, 5), Measured(1, 1, 65, 20)
    assert not soak_size.is_flat({ALL: [small, large]}, [1, 2])
    assert "NOT flat" in capsys.readouterr().out


def test_killed_processes_are_taken_up(service, held, capsys, monkeypatch):
    monkeypatch.setattr(soak_kills, "MAX_LIFE", 0.2)
    soak_kills.Soak(service, held, 1500, seed=3).run(2)
    told = capsys.readouterr().out
    assert "2 processes killed" in told
    assert "All 4,500 objects" in told


def test_a_parked_order_is_noticed_after_the_kills(service, held):
    soaked = soak_kills.Soak(service, held, 5, seed=3)
    data.fill(held.connection, 5)
    data.queue(held.connection, at_most=1)
    held.connection.execute("UPDATE outbound_queue SET need_manual_retry = 'timeout'")
    with pytest.raises(WrongObjects, match="timeout"):
        soaked.check()


def test_twins_share_a_queue(service, held, tmp_path):
    assert "1,200 calls for 1,200 objects, exactly one each" in soak_twins.step(service, held, tmp_path, 400)


def test_an_outage_loses_nothing(service, held, capsys):
    soak_outage.Outage(service, held, 600).run(3)
    told = capsys.readouterr().out
    assert "the target goes down" in told
    assert "all 1,800 objects came, once each, none waits for a person" in told

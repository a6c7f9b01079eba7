"""An inbound DAG through Airflow's machinery, against real PostgreSQL and the sandbox over sockets."""

import base64
import json
import re
import socket
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from include.errors import ConfigurationError

SYNC, CLOSE = "sync_venues", "close_load"


def count(shops, table="stock"):
    return shops.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def venues_with_stocks(shops):
    rows = shops.execute(
        "SELECT DISTINCT siret FROM stock JOIN offer ON offer.id = offer_id JOIN venue ON venue.id = venue_id"
    )
    return {siret for (siret,) in rows}


def load_state(shops):
    return shops.execute("SELECT state FROM catalog WHERE parent_id IS NULL ORDER BY id DESC LIMIT 1").fetchone()[0]


def states(shops):
    """Of the instances of the last load, by link."""
    return dict(
        shops.execute(
            "SELECT venue_provider_id, state FROM load_report"
            " WHERE catalog_id = (SELECT max(id) FROM catalog WHERE parent_id IS NULL)"
        ).fetchall()
    )


def markers(shops):
    return [date for (date,) in shops.execute("SELECT last_sync_date FROM venue_provider ORDER BY id")]


def test_a_good_run_then_one_that_finds_nothing(shops, service, run):
    first = run()
    assert first.state == "success"
    assert first.tasks == {"open_load": ["success"], SYNC: ["success"] * 3, CLOSE: ["success"]}
    assert venues_with_stocks(shops) == set(service.sirets)
    (result,) = first.result(CLOSE)
    assert result["records"] == 120
    assert result["created"] == count(shops, "offer") + count(shops) > 100
    assert result["state"] == load_state(shops) == "loaded"
    assert all(markers(shops))
    assert len(json.dumps(first.result(SYNC))) < 1000, "the tasks return little"
    (link,) = first.result("open_load", key="_link_LoadReportLink")
    assert link.endswith(f"/dags/titelive_stocks/runs/{quote(first.dag_run.run_id)}/tasks/close_load")

    service.requests()
    second = run()
    (result,) = second.result(CLOSE)
    assert (result["records"], result["created"], result["updated"]) == (0, 0, 0)
    assert all(["modifiedSince" in request["query"] for request in service.requests()])

    service.world.advance(10)
    third = run()
    (result,) = third.result(CLOSE)
    assert third.state == "success"
    assert 0 < result["records"] < 120
    assert result["updated"] + result["created"] > 0


def test_dag_test_runs_it_too(shops, service, load_dag, airflow):
    done = load_dag("titelive_stocks").test(run_conf={"limit": 2})
    assert done.state == "success"
    assert count(shops) <= 6


def test_links_are_chosen_by_id_and_by_siret(shops, service, run):
    link = shops.execute("SELECT id FROM venue_provider ORDER BY id LIMIT 1").fetchone()[0]
    siret = service.sirets[2]
    spaced = f" {siret[:3]} {siret[3:]} "
    done = run({"venue_links": [str(link), spaced, ""]})
    assert done.state == "success"
    assert venues_with_stocks(shops) == {service.sirets[0], siret}


def test_an_unknown_link_fails_at_once_and_names_those_there_are(shops, service, run, output):
    done = run({"venue_links": ["99", service.sirets[0]]})
    assert done.state == "failed"
    assert done.tries == {"open_load": 1, CLOSE: 1}
    assert f"No active venue link 99; the active ones are: 1 (SIRET {service.sirets[0]}, La Plume" in output()
    assert count(shops) == 0


def test_a_limit_stops_and_leaves_the_watermark(shops, service, run):
    done = run({"limit": 3})
    assert done.state == "success"
    assert [result["records"] for result in done.result(SYNC)] == [3, 3, 3]
    assert markers(shops) == [None] * 3


def test_a_dry_run_writes_nothing_and_shows_the_differences(shops, service, run, output):
    done = run({"dry_run": True, "venue_links": [service.sirets[0]]})
    assert done.state == "success"
    assert count(shops) == count(shops, "offer") == 0
    assert markers(shops) == [None] * 3
    (result,) = done.result(CLOSE)
    assert result["dry_run"] is True
    text = output()
    assert "::group::Differences: the first 40" in text
    assert re.search(r"create offer \d{13}@\d{14}: product_id \d+, venue_id 1, name '", text)
    assert re.search(r"create stock \d{13}@\d{14}: .*price '\d+\.\d\d', quantity \d+", text)
    assert "(dry run: nothing was written)" in text


def test_a_dry_run_shows_updates_field_by_field(shops, service, run, output):
    run()
    service.world.advance(100)
    output()
    run({"dry_run": True, "full_refresh": True, "venue_links": ["1"]})
    assert re.search(r"update stock \d{13}@\d{14}: .*quantity \d+ → \d+", output())


def test_full_refresh_reads_everything(shops, service, run):
    run()
    service.requests()
    done = run({"full_refresh": True})
    (result,) = done.result(CLOSE)
    assert (result["records"], result["created"], result["updated"]) == (120, 0, 0)
    assert not any(["modifiedSince" in request["query"] for request in service.requests()])


def test_a_failing_venue_does_not_stop_the_others_and_clearing_does_what_is_left(shops, service, run, output):
    shops.execute("UPDATE venue_provider SET venue_id_at_offer_provider = 'nowhere' WHERE id = 2")
    done = run()
    assert done.state == "failed"
    assert done.tasks == {"open_load": ["success"], SYNC: ["success", "failed", "success"], CLOSE: ["failed"]}
    assert done.tries == {"open_load": 1, SYNC: 3, CLOSE: 1}
    assert load_state(shops) == "partially loaded"
    assert venues_with_stocks(shops) == {service.sirets[0], service.sirets[2]}
    text = output()
    assert "1 of 3 venue links failed" in text
    assert re.search(
        r"Load \d+ is partially loaded: 1 of 3 .*\n.*\n.*Au Fil des Marées \(link 2\): .*responded with 404", text
    )

    shops.execute("UPDATE venue_provider SET venue_id_at_offer_provider = %s WHERE id = 2", (service.sirets[1],))
    before = count(shops)
    service.requests()
    done.clear((SYNC, 1), CLOSE)
    assert done.state == "success"
    assert load_state(shops) == "loaded"
    assert count(shops) > before
    assert {request["path"].rpartition("/")[2] for request in service.requests()} == {service.sirets[1]}
    (result,) = done.result(CLOSE)
    assert result["records"] == 120


def test_clearing_the_whole_run_continues_with_the_same_load(shops, service, run):
    service.fault("status", status=404, venue=service.sirets[0])
    done = run()
    assert done.state == "failed"
    service.heal()
    service.requests()
    done.clear("open_load", SYNC, CLOSE)
    assert done.state == "success"
    assert count(shops, "catalog") == 4
    assert {request["path"].rpartition("/")[2] for request in service.requests()} == {service.sirets[0]}


def test_a_passing_fault_is_retried(shops, service, run):
    service.fault("status", status=503, venue=service.sirets[1], times=1)
    done = run()
    assert done.state == "success"
    assert done.tries == {"open_load": 1, SYNC: 4, CLOSE: 1}
    assert done.waits == {SYNC: 120}


def test_a_long_wait_gives_the_slot_back_for_as_long_as_the_service_asks(shops, service, run):
    service.fault("status", status=429, retry_after=400, venue=service.sirets[1], times=1)
    done = run()
    assert 370 < done.waits[SYNC] <= 400  # less what the task took to end, on a busy machine


def test_a_busy_link_is_tried_again(shops, service, run, connect):
    """Another run holds the link's lock the first time it is asked for."""
    from include.store.locks import link_lock

    provider_id = shops.execute("SELECT provider_id FROM venue_provider LIMIT 1").fetchone()[0]
    lock = link_lock(connect(), provider_id, 2)
    lock.__enter__()
    done = run(before_retry=lambda: lock.__exit__(None, None, None))
    assert done.state == "success"
    assert 45 < done.waits[SYNC] <= 60


def test_links_of_one_batch_continue_after_a_failure(shops, service, run, output):
    service.fault("status", status=404, venue=service.sirets[0])
    done = run(at_most_batches=1)
    assert done.tasks[SYNC] == ["failed"]
    assert venues_with_stocks(shops) == set(service.sirets[1:])
    assert "1 of 3 venue links failed, the others finished" in output()
    assert states(shops) == {1: "failed", 2: "done", 3: "done"}
    first = shops.execute("SELECT min(name) FROM venue").fetchone()[0]
    assert done.labels(SYNC) == [f"{first} and 2 more: partially loaded, 1 of 3 failed"]


def test_an_unexpected_error_of_one_link_does_not_stop_the_others(shops, service, run, output, monkeypatch):
    from include.providers.titelive_stocks import TiteLiveStocks

    opened = TiteLiveStocks.open

    def broken(self):
        if self.venue.id == 1:
            raise KeyError("siret")
        opened(self)

    monkeypatch.setattr(TiteLiveStocks, "open", broken)
    done = run(at_most_batches=1)
    assert done.state == "failed"
    assert done.tries[SYNC] == 1
    assert states(shops) == {1: "failed", 2: "done", 3: "done"}
    assert "KeyError: 'siret'" in output()


def test_two_venues_of_one_name_are_both_named(shops, service, run, output):
    shops.execute("UPDATE venue SET name = 'Chapitre Un'")
    service.fault("status", status=404)
    run()
    advice = output().rpartition("To load what is left, clear their sync_venues tasks")[2]
    assert all([f"Chapitre Un (link {link}): " in advice for link in (1, 2, 3)])


def test_no_active_link_is_green_with_a_warning(shops, service, run, output):
    shops.execute("UPDATE venue_provider SET is_active = false")
    done = run()
    assert done.state == "success"
    assert done.tasks[SYNC] == ["skipped"]
    assert "TiteLive stocks has no active venue link: link a venue with the DAG venue_links" in output()


def test_a_link_switched_off_meanwhile_is_skipped(shops, service, run):
    service.fault("status", status=404, venue=service.sirets[0])
    done = run()
    shops.execute("UPDATE venue_provider SET is_active = false WHERE id = 1")
    done.clear((SYNC, 0), CLOSE)
    assert done.state == "success"
    assert states(shops) == {1: "skipped", 2: "done", 3: "done"}


def test_past_the_error_limit_a_load_stops_until_it_is_cleared(shops, service, run, output):
    run({"limit": 1})
    shops.execute("UPDATE catalog_scheme SET error_limit = 0")
    service.fault("status", status=404, venue=service.sirets[0])
    done = run(at_most_batches=1)
    assert done.state == "failed"
    assert "has more failed operations than catalog_scheme.error_limit allows" in output()
    service.heal()
    done.clear("open_load", SYNC, CLOSE)
    assert done.state == "success"


def test_wrong_credentials_fail_at_once_and_stay_out_of_the_log(shops, serve, connect_service, run, output):
    service = serve(auth="titelive=shop:correct-horse")
    connect_service(service, login="shop", password="wrong-battery")
    done = run()
    assert done.state == "failed"
    assert done.tries[SYNC] == 3
    assert load_state(shops) == "failed"
    text = output()
    assert "responded with 401" in text
    assert "check the credentials of the Airflow connection titelive_stocks_api" in text
    encoded = base64.b64encode(b"shop:wrong-battery").decode()
    kept = shops.execute("SELECT string_agg(error, ' ') FROM catalog_scheme_operation_instance").fetchone()[0]
    for secret in ("wrong-battery", encoded):
        assert secret not in text
        assert secret not in kept

    connect_service(service, login="shop", password="correct-horse")
    done.clear(SYNC, CLOSE)
    assert done.state == "success"
    assert "correct-horse" not in output()


@pytest.mark.parametrize("how", ["password", "header", "in the host"])
def test_secrets_stay_out_of_errors_of_a_service_that_is_down(shops, run, monkeypatch, output, how):
    body = {"conn_type": "http", "host": "http://127.0.0.1:9/stocks", "extra": {"attempts": 1}}
    if how == "password":
        body |= {"login": "shop", "password": "s3cr3t-x7"}
    elif how == "header":
        body["extra"] |= {"X-Shop-Ticket": "s3cr3t-x7"}
    else:
        body["host"] = "http://shop:s3cr3t-x7@127.0.0.1:9/stocks"
    monkeypatch.setenv("AIRFLOW_CONN_TITELIVE_STOCKS_API", json.dumps(body))
    done = run({"venue_links": ["1"]})
    assert done.state == "failed"
    text = output()
    assert "Connection refused" in text
    assert "s3cr3t-x7" not in text


def test_a_missing_service_connection_says_what_to_do(shops, run, monkeypatch, output):
    monkeypatch.delenv("AIRFLOW_CONN_TITELIVE_STOCKS_API", raising=False)
    done = run()
    assert done.tries == {"open_load": 1, SYNC: 3, CLOSE: 1}
    advice = (
        "There is no Airflow connection 'titelive_stocks_api': add it with the address of the service, or set AIRFLOW_"
    )
    text = output()
    assert advice in text
    assert re.search(rf"La Plume et le Hibou \(link 1\): {advice}", text), "the closing task names the reason per venue"


def test_a_missing_database_connection_says_what_to_do(shops, service, run, monkeypatch, output):
    monkeypatch.delenv("AIRFLOW_CONN_SYNC_DB")
    done = run()
    assert done.tries == {"open_load": 1, CLOSE: 1}
    assert "There is no Airflow connection 'sync_db': add it, or set AIRFLOW_CONN_SYNC_DB" in output()


def test_a_database_that_is_away_is_tried_again(shops, service, run, monkeypatch, output):
    body = {"conn_type": "postgres", "host": "127.0.0.1", "port": 9, "login": "shop", "password": "s3cr3t-x7"}
    monkeypatch.setenv("AIRFLOW_CONN_SYNC_DB", json.dumps(body))
    done = run()
    assert done.state == "failed"
    assert done.tries["open_load"] == 4
    text = output()
    assert "PostgreSQL of connection 'sync_db' cannot be reached" in text
    assert "s3cr3t-x7" not in text


def test_a_database_that_was_never_migrated_says_what_to_do(shops, service, run, set_database, new_database, output):
    set_database(new_database(template="template1"))
    done = run()
    assert done.tries["open_load"] == 1
    assert 'relation "provider" does not exist. Run `make migrate`' in output()


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ({"requests_per_second": "fast"}, "has requests_per_second='fast': expected a number"),
        ({"requests_per_second": 0}, "has requests_per_second=0: it must be above 0"),
        ({"attempts": -1}, "has attempts=-1: it must be above 0"),
        ({"read_timeout": [3]}, r"has read_timeout=[3]: expected a number"),
        ({"read_timeout": "nan"}, "has read_timeout='nan': it must be above 0"),
        ({"longest_sleep": "inf"}, "has longest_sleep='inf': it must be above 0"),
        ({"connect_timeout": True}, "has connect_timeout=True: expected a number"),
        ({"attempts": 2.5}, "has attempts=2.5: expected a whole number"),
        ({"allow_private_networks": "yes"}, "has allow_private_networks='yes': expected true or false"),
        ({"allow_private_networks": 1}, "has allow_private_networks=1: expected true or false"),
    ],
    ids=str,
)
def test_a_setting_of_the_connection_that_cannot_be_used(airflow, extra, complaint):
    from include.operators.connections import own_settings

    message = f"The extra of connection 'titelive_stocks_api' {complaint}"
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        own_settings("titelive_stocks_api", extra)


def test_the_extra_holds_headers_and_settings_of_ours(shops, recorder, connect_service, run):
    """What we take as a setting is not sent; whatever else is there is a header."""
    ours = {"connect_timeout": "3", "read_timeout": 20, "attempts": 2, "longest_sleep": 9, "requests_per_second": 500}
    ours["allow_private_networks"] = True
    connect_service(recorder, extra={"X-Shop": "librairie", **ours}, login="shop", password="pass word")
    done = run({"venue_links": ["1"]})
    assert done.state == "success"
    headers = {name.lower(): value for name, value in recorder.recorded[-1][1].items()}
    assert headers["x-shop"] == "librairie"
    assert headers["authorization"] == f"Basic {base64.b64encode(b'shop:pass word').decode()}"
    assert not {*ours, "requests-per-second"} & headers.keys()


@pytest.mark.parametrize(("value", "allowed"), [(True, True), ("true", True), ("False", False), (None, False)])
def test_the_extra_may_allow_private_networks(shops, service, connect_service, value, allowed):
    connect_service(service, extra={"allow_private_networks": value})
    from include.operators.connections import connector_for
    from include.providers.titelive_stocks import TiteLiveStocks

    with connector_for(TiteLiveStocks) as connector:
        assert connector.third_party.conn_id == "titelive_stocks_api"
        assert connector.third_party.is_exempt("http://10.0.0.1/a.jpg") is allowed
        assert connector.third_party.is_exempt(service.url)


def test_a_host_that_does_not_exist_fails_at_once_and_names_the_connection(
    shops, connect_service, run, output, monkeypatch
):
    def unknown(host, *args, **kwargs):
        if host == "stocks.fnac.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **kwargs)

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    connect_service(None, host="http://stocks.fnac.example/api", extra={"attempts": 5})
    done = run({"venue_links": ["1"]})
    assert (done.state, done.tries[SYNC]) == ("failed", 1)
    message = "the host stocks.fnac.example is unknown, check the address of the Airflow connection titelive_stocks_api"
    assert message in output()


def test_only_a_backfill_reads_its_own_interval(shops, service, run):
    run()
    before = markers(shops)
    service.requests()
    interval = (datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 2, tzinfo=UTC))
    assert run(run_type="backfill", interval=interval).state == "success"
    assert {request["query"]["modifiedSince"] for request in service.requests()} == {"2024-05-01T00:00:00Z"}
    assert markers(shops) >= before
    run(run_type="scheduled", interval=interval)
    assert all([request["query"]["modifiedSince"] > "2026" for request in service.requests()])


@pytest.fixture
def events(airflow):
    """A function that gives the asset events of a run: by asset, the rows that were written."""
    from airflow.models.asset import AssetEvent, AssetModel

    def events(done):
        with airflow.Session() as session:
            found = (
                session.query(AssetEvent, AssetModel)
                .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
                .filter(AssetEvent.source_run_id == done.dag_run.run_id)
                .all()
            )
        return {asset.name: event.extra["rows"] for event, asset in found}

    return events


def test_the_tables_that_a_run_wrote_emit_events_and_no_other(shops, service, run, events):
    assert events(run({"dry_run": True})) == {}
    offers, stocks = (shops.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("offer", "stock"))
    assert offers == stocks == 0
    first = events(run())
    offers, stocks = (shops.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("offer", "stock"))
    assert first == {"provider_sync.offer": offers, "provider_sync.stock": stocks}
    assert events(run({"full_refresh": True})) == {}
    shops.execute("SET provider_sync.writer = 'sync'")
    shops.execute("UPDATE stock SET price = price + 1, date_modified_at_last_provider = '-infinity' WHERE id = 1")
    assert events(run({"full_refresh": True})) == {"provider_sync.stock": 1}


def test_mapped_tasks_are_named_after_their_venues_and_how_they_ended(shops, service, run):
    service.fault("bad_records", venue=service.sirets[0], kinds=["negative_price"], share=0.2)
    service.fault("status", venue=service.sirets[1], status=404)
    done = run()
    assert done.state == "failed"
    names = {row[0]: row[1] for row in shops.execute("SELECT siret, name FROM venue")}
    rejected = shops.execute("SELECT count(*) FROM rejected_record").fetchone()[0]
    assert rejected
    assert sorted(done.labels(SYNC)) == sorted(
        [
            f"{names[service.sirets[0]]}: loaded, {rejected} rejected",
            f"{names[service.sirets[1]]}: failed",
            f"{names[service.sirets[2]]}: loaded",
        ]
    )
    (report,) = done.result("close_load", key="return_value") or [None]
    assert report is None, "a load that failed returns nothing"


def test_the_log_shows_the_four_steps_of_each_link(shops, service, run, output):
    service.fault("bad_records", venue=service.sirets[0], kinds=["negative_price"], share=0.2)
    run({"venue_links": ["1"]})
    lines = [line for line in output().splitlines() if "group::" in line and "include." in line]
    titles = [line.partition("group::")[2] for line in lines if "::group::" in line]
    patterns = [
        r"TiteLive stocks: La Plume et le Hibou \(link 1\)",
        r"Fetch: waited \d+\.\d\d s for pages",
        r"Read: 40 records in \d+\.\d\d s",
        r"Compare: \d+ objects in \d+\.\d\d s",
        r"Fill and write: \d+ created, 0 updated in \d+\.\d\d s",
        r"Rejected: \d+ records",
    ]
    assert len(titles) == len(patterns)
    for title, pattern in zip(titles, patterns, strict=True):
        assert re.fullmatch(pattern, title)
    assert len([line for line in lines if "::endgroup::" in line]) == len(titles)

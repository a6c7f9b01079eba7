"""Runs of an inbound DAG with parameters: replays, limits, released fields."""

import re

import pytest

from tests.operators.test_inbound_dag import CLOSE, SYNC, count, load_state, markers, states


def reject(service, run, share=0.2, **options):
    """Load all venues while the first one's listing has bad prices, then without; returns the first run."""
    service.fault("bad_records", venue=service.sirets[0], kinds=["negative_price"], share=share)
    done = run(options)
    service.heal()
    return done


def waiting(shops):
    return shops.execute("SELECT count(*) FROM rejected_report WHERE resolution IS NULL").fetchone()[0]


def repair(shops):
    return shops.execute(
        "UPDATE rejected_record SET payload = jsonb_set(payload::jsonb, '{price}', '1234')::text"
        " WHERE resolved_at IS NULL"
    ).rowcount


class TestReplay:
    def test_what_was_repaired_is_written_without_asking_the_service(self, shops, service, run, output):
        assert reject(service, run).state == "success"
        bad = waiting(shops)
        assert bad > 0
        text = output()
        assert f"Rejected: {bad} records" in text
        named = re.findall(r"rejected_record (\d+), (\S+).*: price: -\d+", text)
        assert len(named) == min(5, bad)
        assert "SELECT * FROM rejected_report WHERE resolution IS NULL" in text
        assert "then run the DAG with replay_rejected" in text

        before, seen = count(shops), markers(shops)
        assert repair(shops) == bad
        service.requests()
        done = run({"replay_rejected": True})
        assert done.state == "success"
        assert done.tasks[SYNC] == ["success"]
        assert service.requests() == []
        (result,) = done.result(CLOSE)
        assert (result["records"], result["rejected"]) == (bad, 0)
        assert waiting(shops) == 0
        assert count(shops) - before == result["created"] / 2 > 0
        assert markers(shops) == seen

    def test_none_waiting_is_green_and_says_so(self, shops, service, run, output):
        run()
        output()
        done = run({"replay_rejected": True})
        assert done.state == "success"
        assert done.tasks[SYNC] == ["skipped"]
        text = output()
        assert "no rejected record of TiteLive stocks waits to be replayed" in text
        assert "no active venue link" not in text

    def test_what_is_still_bad_waits_on(self, shops, service, run, output):
        reject(service, run)
        bad = waiting(shops)
        output()
        done = run({"replay_rejected": True, "venue_links": ["1"]})
        assert done.state == "success"
        assert waiting(shops) == bad
        assert count(shops, "rejected_record") == 2 * bad
        assert f"Rejected: {bad} records" in output()
        assert run({"replay_rejected": True, "venue_links": ["2"]}).tasks[SYNC] == ["skipped"]

    def test_a_dry_run_shows_what_it_would_write(self, shops, service, run, output):
        reject(service, run)
        bad = waiting(shops)
        repair(shops)
        done = run({"replay_rejected": True, "dry_run": True})
        assert done.state == "success"
        assert waiting(shops) == bad
        assert "::group::Differences" in output()

    def test_a_full_refresh_resolves_what_it_lists_again(self, shops, service, run):
        reject(service, run)
        bad = waiting(shops)
        run()
        assert waiting(shops) == bad
        run({"full_refresh": True})
        assert waiting(shops) == 0
        assert shops.execute("SELECT DISTINCT resolution FROM rejected_record").fetchall() == [("listed again",)]

    def test_replay_and_full_refresh_are_not_both(self, shops, service, run, output):
        done = run({"replay_rejected": True, "full_refresh": True})
        assert done.tries == {"open_load": 1, CLOSE: 1}
        assert "full_refresh reads the service: choose one of them" in output()


class TestLimits:
    @pytest.mark.parametrize("limit", [0, 1])
    def test_a_load_stops_at_the_error_limit_of_its_run(self, shops, service, run, output, limit):
        run({"limit": 1})
        shops.execute("UPDATE catalog_scheme SET error_limit = 3")
        for siret in service.sirets[:2]:
            service.fault("status", status=404, venue=siret)
        done = run({"error_limit": limit}, at_most_batches=1)
        assert done.state == "failed"
        assert f"more failed operations than its parameter error_limit, {limit}, allows" in output()
        assert [state for _, state in sorted(states(shops).items())] == ["failed"] * (limit + 1) + ["new"] * (2 - limit)

        service.heal()
        done.clear("open_load", SYNC, CLOSE)
        assert (done.state, load_state(shops)) == ("success", "loaded")

    def test_it_goes_before_that_of_the_scheme(self, shops, service, run):
        run({"limit": 1})
        shops.execute("UPDATE catalog_scheme SET error_limit = 0")
        service.fault("status", status=404, venue=service.sirets[0])
        run({"error_limit": 1}, at_most_batches=1)
        assert states(shops) == {1: "failed", 2: "done", 3: "done"}

    def test_a_link_stops_at_the_error_budget_of_its_operation(self, shops, service, run, output):
        run({"limit": 1})
        shops.execute("UPDATE catalog_scheme_operation SET error_allowance = 2, error_share = 0")
        done = reject(service, run, share=0.5, full_refresh=True)
        assert done.state == "failed"
        assert states(shops) == {1: "failed", 2: "done", 3: "done"}
        text = output()
        assert re.search(r"\d+ of \d+ records were rejected, more than the error budget of 2\.", text)
        assert "::group::Rejected: the first" in text
        assert re.search(r"rejected_record \d+, .*: price: -", text)

        done.clear((SYNC, 0), CLOSE)
        assert (done.state, load_state(shops)) == ("success", "loaded")

    def test_a_shrunken_listing_can_be_accepted(self, shops, service, run):
        run({"accept_shrunk": True})
        kept = "SELECT parameters -> 'accept_shrunk' FROM catalog WHERE parent_id IS NULL"
        assert shops.execute(kept).fetchone() == (True,)


class TestReleaseFields:
    @pytest.fixture
    def edited(self, shops, service, run):
        """An offer of which a person changed name and description, a stock with another price; returns their ids."""
        run()
        stock, offer = shops.execute("SELECT id, offer_id FROM stock ORDER BY id LIMIT 1").fetchone()
        shops.execute("UPDATE offer SET name = 'Ours', description = 'Ours' WHERE id = %s", (offer,))
        shops.execute("UPDATE stock SET price = 0.5 WHERE id = %s", (stock,))
        return offer, stock

    def overrides(self, shops):
        return shops.execute("SELECT table_name, id, field FROM fields_held_back ORDER BY 1, 2, 3").fetchall()

    def test_fields_are_given_back_before_the_load(self, shops, run, edited, output):
        offer, stock = edited
        assert len(self.overrides(shops)) == 3
        output()
        done = run({"release_fields": [f"offer.{offer}.name", f" stock.{stock} ", ""], "full_refresh": True})
        assert done.state == "success"
        assert self.overrides(shops) == [("offer", offer, "description")]
        text = output()
        assert f"Released offer.{offer}.name: name" in text
        assert f"Released stock.{stock}: price" in text
        assert "The next listing that has these records writes the provider's values" in text
        assert "Offers of the stock APIs keep their values" in text
        assert "again with full_refresh" not in text
        assert shops.execute("SELECT price FROM stock WHERE id = %s", (stock,)).fetchone()[0] != 0.5

    def test_a_dry_run_gives_nothing_back(self, shops, run, edited, output):
        offer, _ = edited
        before = self.overrides(shops)
        run({"release_fields": [f"offer.{offer}"], "dry_run": True})
        assert self.overrides(shops) == before
        assert f"Dry run, would release offer.{offer}: description, name" in output()

    def test_clearing_does_not_give_back_what_was_edited_since(self, shops, service, run, edited, output):
        _, stock = edited
        service.fault("status", status=404, venue=service.sirets[0])
        done = run({"release_fields": [f"stock.{stock}"]})
        assert done.state == "failed"
        shops.execute("UPDATE stock SET price = 0.7 WHERE id = %s", (stock,))
        service.heal()
        done.clear("open_load", SYNC, CLOSE)
        assert done.state == "success"
        assert ("stock", stock, "price") in self.overrides(shops)
        text = output()
        assert "trigger this DAG again with full_refresh, and with venue_links" in text
        assert "Offers of the stock API" not in text
        assert "Not releasing fields again: they were released when this load was opened first" in text

    def test_all_that_is_wrong_is_named_and_nothing_done(self, shops, run, edited, output):
        offer, _ = edited
        before, loads = self.overrides(shops), count(shops, "catalog")
        wrong = [
            "offer", "offer.", f"offer.{offer}.", "offer.x.name", "venue.1", f"offer.{offer}.id_at_providers",
            "stock.999999", f"stock.{10**30}", "offer.²",
        ]  # fmt: skip
        done = run({"release_fields": [f"offer.{offer}.name", *wrong]})
        assert done.tries == {"open_load": 1, CLOSE: 1}
        text = output()
        for entry in wrong:
            assert repr(entry) in text
        for message in (
            "'offer' is not of the form table.id or table.id.field, such as stock.123.price",
            "there is no table 'venue', only product, offer, stock",
            "offer has no field 'id_at_providers' that providers write",
            "there is no stock 999999",
        ):
            assert message in text
        assert (self.overrides(shops), count(shops, "catalog")) == (before, loads)


def test_a_provider_without_venues_refuses_venue_links(shops, run, output, monkeypatch):
    monkeypatch.setattr("include.providers.titelive_stocks.TiteLiveStocks.needs_venue", False)
    loads = count(shops, "catalog")
    done = run({"venue_links": ["1"]})
    assert done.state == "failed"
    assert done.tries["open_load"] == 1
    assert "TiteLive stocks has one listing for all venues: leave out venue_links" in output()
    assert count(shops, "catalog") == loads

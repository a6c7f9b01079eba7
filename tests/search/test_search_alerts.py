"""Alerts about the patching of an index."""

import pytest

from include.connectors.teams import adaptive_card
from include.patches.base import Patch
from include.search import alerts, stored_pass


def parts(alert):
    return alert.title, alert.tone, alert.facts


def test_a_patch_after_a_move(site, look):
    site.rebuild()
    run = look(site)
    title, colour, facts = parts(alerts.patched("offers", run, run.report))
    assert (title, colour) == ("offers: patched", "good")
    assert facts["Moved"] == f"offers_1 onto offers at {run.moves[-1].at:%Y-%m-%d %H:%M:%S} UTC"
    assert float(facts["Patched after"].removesuffix(" s")) >= 0
    assert (facts["Records read"], facts["Differed"]) == ("690", str(run.report.changed))
    assert facts["customer_dispo"].startswith(f"disponible {run.report.patches['customer_dispo'].values['disponible']}")
    assert "is not 'en stock': " in facts["customer_dispo, odd"]


def test_a_patch_without_a_move(site, look):
    run = look(site)
    _, _, facts = parts(alerts.patched("offers", run, run.report))
    assert facts["Because"] == "first run"
    assert "Moved" not in facts


@pytest.mark.parametrize("most", [0, 2])
def test_an_index_that_is_rebuilt_faster_than_it_can_be_patched(site, look, monkeypatch, most):
    monkeypatch.setattr(stored_pass, "LOG_CHECK_SECONDS", 0)
    index = site.index()
    index.on_page = {"every": site.rebuild}
    run = look(site, index=index, max_restarts=most)
    title, colour, facts = parts(alerts.patched("offers", run, run.report))
    assert (title, colour) == ("offers: rebuilt faster than it can be patched", "bad")
    assert ("Restarted" in facts) is (most > 0)


def test_many_long_values_fit_into_a_card(site, look):
    site.write([{"objectID": str(n), "a": f"{n} " + "é" * 3000} for n in range(40)], "cars")
    patches = [
        Patch(f"p{n}", ("a",), (f"b{n}",), lambda r, n=n: {f"b{n}": r["a"]}, lambda r: f"odd: {r['a']}")
        for n in range(9)
    ]
    run = look(site, index=site.index(name="cars"), patches=patches)
    alert = alerts.patched("cars", run, run.report)
    assert alert.title == "cars: patched"
    card = adaptive_card(alert.title, text=alert.body, facts=alert.facts)
    assert all(len(fact["value"]) <= 4001 for part in card["body"] for fact in part.get("facts", []))


def test_a_dry_run(site, look):
    run = look(site, dry_run=True, is_manual=True)
    title, colour, facts = parts(alerts.dry_run("offers", run))
    assert (title, colour) == ("offers: test message of a dry run", "neutral")
    assert facts["Records read"] == "690"
    look(site)
    quiet = look(site, dry_run=True)
    assert quiet.report is None
    alert = alerts.dry_run("offers", quiet, url="http://a.test/run")
    assert (alert.body, alert.facts, alert.url) == (quiet.summary, {}, "http://a.test/run")

"""What `make status` and `make problems` print."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from include.store.problems import Incident, OffSale, Rejections, SearchProblem, UnsentOrder
from include.store.status import IndexStatus, LinkStatus, TargetStatus
from local import problems, status
from local.checkout import Checkout, LocalError
from local.console import Screen

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAGS = {"TiteLiveStocks": "titelive_stocks", "crm": "outbound_crm"}
NOTHING = problems.Problems([], [], [], [], [], [], [], 0)


def ago(**span):
    return NOW - timedelta(**span)


def a_link(**fields):
    usual = dict.fromkeys(LinkStatus.__struct_fields__) | {
        "provider": "TiteLive", "local_class": "TiteLiveStocks", "venue": "La Plume", "venue_provider_id": 4,
        "is_active": True, "is_abandoned": False, "run_id": "titelive_stocks/r",
    }  # fmt: skip
    return LinkStatus(**usual | fields)


def a_target(**fields):
    usual = {"target": "crm", "queued": 5, "sending": 0, "to_retry": 2, "parked": 1, "ran_at": ago(minutes=4)}
    return TargetStatus(**usual | {"sent": 7, "down": None} | fields)


@pytest.fixture
def show():
    """A function that calls a printing function, and returns the lines with single blanks."""

    def show(shown, *arguments):
        screen = Screen(Console(file=io.StringIO(), highlight=False, soft_wrap=True))
        shown(screen, *arguments)
        return [" ".join(line.split()) for line in screen.console.file.getvalue().splitlines()]

    return show


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (None, "never"),
        (NOW + timedelta(seconds=5), "0 s ago"),
        (ago(seconds=59), "59 s ago"),
        (ago(seconds=60), "1 min ago"),
        (ago(hours=3, minutes=59), "3 h ago"),
        (ago(days=2, hours=1), "2 d ago"),
    ],
)
def test_an_age_is_shown_in_words(at, words):
    assert status.ago(at, NOW) == words


def test_a_venue_shows_its_last_complete_read_and_its_last_load(show):
    counts = {"checked": 6000, "created": 12, "updated": 3, "rejected": 0}
    rows = [
        a_link(read_at=ago(hours=3), state="done", finished_at=ago(hours=3), **counts),
        a_link(read_at=ago(days=1), state="done", finished_at=ago(hours=3), **counts | {"rejected": 4}),
        a_link(state="failed", finished_at=ago(minutes=5)),
        a_link(),
        a_link(is_active=False),
        a_link(is_active=False, state="done", finished_at=ago(days=9)),
        a_link(state="running", started_at=ago(minutes=2)),
        a_link(state="running", started_at=ago(days=2), is_abandoned=True),
        a_link(state="new", is_abandoned=True),
        a_link(venue=None, venue_provider_id=None),
        a_link(venue=None, venue_provider_id=None, state="done", finished_at=ago(hours=1)),
    ]
    lines = show(status.show_links, rows, NOW)
    assert lines[0] == "provider venue last complete read last load checked created updated rejected"
    assert lines[1].endswith("3 h ago loaded 3 h ago 6,000 12 3 0")
    assert lines[1].startswith("TiteLive La Plume (link 4) 2026-06-01")
    assert lines[2].endswith("1 d ago loaded, some rejected 3 h ago 6,000 12 3 4")
    assert lines[3:12] == [
        "TiteLive La Plume (link 4) never failed 5 min ago",
        "TiteLive La Plume (link 4) never none yet",
        "TiteLive La Plume (link 4) never inactive",
        "TiteLive La Plume (link 4) never inactive; loaded 9 d ago",
        "TiteLive La Plume (link 4) never running 2 min ago",
        "TiteLive La Plume (link 4) never interrupted 2 d ago",
        "TiteLive La Plume (link 4) never not started",
        "TiteLive (no venue is linked) never none yet",
        "TiteLive - never loaded 1 h ago",
    ]
    assert lines[12] == "3 of 11 failed or were interrupted: `make problems` shows why"


def test_indices_and_targets_have_a_line_each(show):
    index = IndexStatus("offers", "APP", 5000, ago(seconds=20), ago(hours=5), ago(hours=5), 4981, None)
    assert show(status.show_indices, [index], NOW)[1] == "offers 20 s ago 5 h ago 5 h ago 4,981 5,000"
    lines = show(status.show_targets, [a_target(), a_target(target="x", down="503", ran_at=None, sent=None)], NOW)
    assert lines[1:3] == ["crm 4 min ago 7 5 0 2 1", "x never, target is down 5 0 2 1"]


def test_a_dag_narrows_to_what_it_works_on():
    checkout = Checkout(ROOT)
    assert status.scope_of(checkout, "") == status.Scope(None, None, None)
    assert status.scope_of(checkout, "titelive_stocks").providers == ["TiteLiveStocks"]
    assert status.scope_of(checkout, "outbound_mailing_list").targets == ["mailing_list"]
    assert status.scope_of(checkout, "algolia_customer_dispo") == status.Scope("algolia_customer_dispo", [], [])
    assert {"TiteLiveStocks": "titelive_stocks", "mailing_list": "outbound_mailing_list"}.items() <= (
        problems.dags_by_name(checkout).items()
    )
    with pytest.raises(LocalError, match=r"DAG=nope is not a DAG of this project; the DAGs are: .*titelive") as error:
        status.scope_of(checkout, "nope")
    assert error.value.status == 2
    with pytest.raises(LocalError, match="FORMAT=xml is unknown: specify text or json"):
        status.check_format("xml")


def shown_for(**found):
    fields = {name: getattr(NOTHING, name) for name in NOTHING.__dataclass_fields__}
    return list(problems.lines(problems.Problems(**fields | found), DAGS, NOW))


def test_no_problems():
    assert NOTHING.is_empty
    assert shown_for() == ["No problems."]
    assert shown_for(overrides=3)[-1].startswith("3 manually edited fields")
    assert problems.Problems([], [], [], [], [], [], [], 3).is_empty


def test_a_failed_venue_comes_with_its_reason_and_what_happens_next():
    failed = a_link(state="failed", finished_at=ago(hours=1), read_at=ago(days=2), error="401: no\ncheck the key")
    assert shown_for(loads=[failed]) == [
        "Venues not read (1)",
        "  TiteLive, La Plume (link 4): failed 1 h ago",
        "      401: no",
        "      check the key",
        "      last complete read: 2 d ago",
        "      the next run of titelive_stocks retries it; to retry now: "
        """make sync DAG=titelive_stocks CONF='{"venue_links": ["4"]}'""",
        "",
    ]
    half = a_link(state="running", is_abandoned=True, started_at=ago(hours=1), local_class="Gone", run_id="old_dag/r")
    lines = shown_for(loads=[half])
    assert lines[1].endswith("interrupted 1 h ago")
    assert "old_dag" in lines[3]


def test_rejected_records_come_with_an_example_and_how_to_replay():
    row = Rejections("TiteLive", "TiteLiveStocks", "La Plume", "price: negative", 7, 7, 17, "978@1", None, ago(days=3))
    assert shown_for(rejections=[row])[1:4] == [
        "  TiteLive, La Plume: 7 records: price: negative",
        "      for example id 17 (978@1) in rejected_report; oldest: 3 d ago",
        "      correct the record or the parser, then run: make replay DAG=titelive_stocks",
    ]
    row.count, row.replayable, row.reference = 1, 0, None
    lines = shown_for(rejections=[row])
    assert lines[1] == "  TiteLive, La Plume: 1 record: price: negative"
    assert "full refresh" in lines[3]
    assert "replay" not in lines[3]


def test_orders_targets_and_indices_come_with_their_reason():
    parked = UnsentOrder("crm", "A1", "expo", "permanent", ["no address"], 1, None)
    waiting = UnsentOrder("crm", "B2", None, None, ["503"], 2, NOW + timedelta(minutes=4, seconds=9))
    assert shown_for(unsent=[parked, waiting])[1:6] == [
        "  crm, A1 of expo: parked (permanent) after 1 failed attempt",
        "      no address",
        """      correct it, then run: make sync DAG=outbound_crm CONF='{"retry": true}'""",
        "  crm, B2: retried in 4 min, after 2 failed attempts",
        "      503",
    ]
    assert shown_for(down=[a_target(down="401: no")])[1:4] == [
        "  crm: 7 orders stay queued",
        "      401: no",
        "      the next run of outbound_crm retries them",
    ]
    still = SearchProblem("offers", "403: no", 0, {}, ago(hours=1), None)
    refused = SearchProblem("offers", None, 2, {"17": "too large"}, ago(hours=1), None)
    assert shown_for(search=[still, refused])[1:5] == [
        "  offers: the pass of 1 h ago is incomplete; the next run resumes it",
        "      403: no",
        "  offers: 2 records could not be patched 1 h ago; all others were",
        "      17: too large",
    ]


def test_incidents_and_booked_stocks_are_shown():
    failing = [Incident("a", ago(days=1), ago(minutes=1), n, "no") for n in (0, 1, 5)]
    words = [line.split(" since")[0] for line in shown_for(incidents=failing) if " since" in line]
    assert words == ["  a: late", "  a: failed once", "  a: failed 5 times"]
    line = shown_for(off_sale=[OffSale("Allociné", "Rex", 1, 3, 9, "A film")])[1]
    assert line == "  Allociné, Rex: 1 stock, 3 booked"


def test_a_long_list_names_the_view_that_has_the_rest():
    rows = [UnsentOrder("crm", str(n), None, "config", [], 1, None) for n in range(problems.MAX_ENTRIES + 2)]
    lines = shown_for(unsent=rows)
    assert lines[0] == f"Orders not sent ({problems.MAX_ENTRIES + 2})"
    assert lines[-2] == "  and 2 more: make psql SQL='SELECT * FROM outbound_problems'"
    assert sum("parked" in line for line in lines) == problems.MAX_ENTRIES


def test_json_has_everything(capsys):
    status.print_json({"links": [a_link(read_at=NOW)]})
    (link,) = json.loads(capsys.readouterr().out)["links"]
    assert (link["venue"], link["read_at"], link["state"]) == ("La Plume", "2026-06-01T12:00:00Z", None)
    status.print_json(NOTHING)
    assert json.loads(capsys.readouterr().out)["overrides"] == 0

"""Following runs: parameters, logs, the report."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from local import commands, report, runs
from local.__main__ import arguments
from local.checkout import LocalError
from local.runs import LogFollower, Run


@pytest.mark.parametrize("text", ["{limit: 10}", "[1]", "10", "{"])
def test_other_conf_is_refused_in_one_line(text):
    with pytest.raises(LocalError, match="CONF") as error:
        commands.read_conf(text)
    assert error.value.status == 2
    assert "\n" not in str(error.value)


def test_a_replay_is_a_sync_with_one_parameter_more(monkeypatch):
    synced: list[tuple[str, object]] = []
    monkeypatch.setattr(commands, "sync", lambda _, dag_id, conf: synced.append((dag_id, json.loads(conf))) or 0)
    for conf in ("", '{"limit": 3, "replay_rejected": false}'):
        assert commands.replay(None, "titelive_stocks", conf) == 0
    assert synced == [
        ("titelive_stocks", {"replay_rejected": True}),
        ("titelive_stocks", {"limit": 3, "replay_rejected": True}),
    ]


@pytest.mark.parametrize("command", ["sync", "replay"])
def test_the_makefile_hands_dag_and_conf_over(monkeypatch, command):
    monkeypatch.setenv("DAG", "titelive_stocks")
    monkeypatch.setenv("CONF", '{"limit": 3}')
    options = arguments([command])
    assert (options.command, options.dag, options.conf) == (command, "titelive_stocks", '{"limit": 3}')


def test_only_a_dag_with_rejected_records_is_replayed():
    class Api:
        def params(self, dag_id):
            return {"stocks": {"limit": {}, "replay_rejected": {}}, "search": {"dry_run": {}}}[dag_id]

    for conf in ({}, {"replay_rejected": False}):
        commands.check_conf(Api(), ["stocks"], conf)
    commands.check_conf(Api(), ["stocks"], {"replay_rejected": True})
    with pytest.raises(LocalError, match="search has no rejected records to replay") as error:
        commands.check_conf(Api(), ["search"], {"replay_rejected": True})
    assert error.value.status == 2
    with pytest.raises(LocalError, match="stocks has no parameter dryrun; it has: limit, replay_rejected"):
        commands.check_conf(Api(), ["stocks"], {"dryrun": True, "limit": 3})
    with pytest.raises(LocalError, match=r"search has no parameter dryrun \(did you mean dry_run\?\); it has: dry_run"):
        commands.check_conf(Api(), ["search"], {"dryrun": True})


def entry(event: str, **more: object) -> str:
    return json.dumps({"timestamp": "2026-01-01T10:00:00Z", "level": "info", "event": event} | more)


def test_a_log_line_is_readable():
    assert runs.readable(entry("done"))[0].endswith("00:00 done")
    assert runs.readable(entry("::group::Pre Execute")) == []
    assert runs.readable(entry("::group::Fetch: 3 requests")) == ["10:00:00 Fetch: 3 requests"]
    assert runs.readable("plain") == ["plain"]
    assert runs.readable("17") == ["17"]
    assert runs.readable("") == []


@pytest.mark.parametrize("event", ["DAG bundles loaded: dags-folder", "Filling up the DagBag from /x/dags/d.py"])
def test_what_airflow_logs_of_every_task_is_left_out_unless_it_is_a_warning(event):
    assert runs.readable(entry(event)) == []
    assert runs.readable(entry(event, level="warning")) == [f"10:00:00 WARNING {event}"]


def test_the_decision_of_the_retry_policy_is_shown_with_its_reason():
    line = entry("Retry policy decision", action="fail", reason="AccessRefused: a person has to look at it")
    assert runs.readable(line) == ["10:00:00 Retry policy decision: fail, AccessRefused: a person has to look at it"]
    assert runs.readable(entry("Retry policy decision")) == ["10:00:00 Retry policy decision"]


def test_of_a_traceback_airflows_own_frames_are_left_out():
    inside = {"filename": "/v/lib/site-packages/airflow/sdk/task_runner.py", "lineno": 1, "name": "run"}
    other = {"filename": "/v/lib/site-packages/airflow_provider/hook.py", "lineno": 2, "name": "get"}
    error = {"exc_type": "KeyError", "exc_value": "'x'", "frames": [inside, other, inside]}
    lines = runs.readable(entry("it failed", level="error", error_detail=[error]))
    assert lines[0].endswith("ERROR it failed")
    assert lines[1:] == ["  /v/lib/site-packages/airflow_provider/hook.py:2 in get", "KeyError: 'x'"]
    ours = error | {"exc_type": "AccessRefused", "exc_value": "401"}
    assert runs.readable(entry("it failed", level="error", error_detail=[ours]))[1:] == ["AccessRefused: 401"]
    # The venues of this error were logged before.
    value = "2 of 3 venue links failed, the others finished:\n  - A (link 1): 401: no\n  - and 7 more"
    links = {"exc_type": "LinksFailed", "exc_value": value, "frames": []}
    lines = runs.readable(entry("it failed", level="error", error_detail=[links]))
    assert lines[1:] == ["LinksFailed: 2 of 3 venue links failed, the others finished"]


def test_a_task_that_is_tried_again_says_why_and_when_as_far_as_its_log_does(tmp_path):
    log = tmp_path / "attempt=1.log"
    first = entry("Retry policy decision", action="retry", reason="LinkBusy: tried again in 1 min")
    last = entry("Retry policy decision", action="retry", reason="ServiceUnavailable: tried again in 2 min")
    log.write_text(f"{first}\n{last}\nplain\n{entry('after')}\n")
    assert runs.retry_reason(log) == "ServiceUnavailable: tried again in 2 min"
    log.write_text(entry("killed"))
    assert runs.retry_reason(log) == runs.retry_reason(None) == "it will be retried"


def test_a_log_that_only_repeats_the_report_is_known(tmp_path):
    log = tmp_path / "attempt=1.log"
    error = {"exc_type": "LinksFailed", "exc_value": 'failed:\n  - A: 401: "no"', "frames": []}
    log.write_text(f"plain\n{entry('it failed', error_detail=[error])}\n")
    assert runs.contains_error(log, ['401: "no"'])
    assert not runs.contains_error(log, ["403: no", ""])
    assert not runs.contains_error(log, [])


def test_growing_logs_are_printed_once(tmp_path: Path, screen):
    folder = tmp_path / "dag_id=d" / "run_id=r" / "task_id=t" / "map_index=2"
    folder.mkdir(parents=True)
    follow = LogFollower(Run("d", "r"), tmp_path, screen)
    log = folder / "attempt=1.log"
    log.write_text(entry("one") + "\n" + entry("tw")[:20])
    follow()
    log.write_text(entry("one") + "\n" + entry("two") + "\n")
    follow()
    follow()
    printed = screen.console.file.getvalue().splitlines()
    assert [line.split()[-1] for line in printed] == ["one", "two"]
    assert printed[0].startswith("  t[2] | ")


def test_the_report_has_a_line_per_venue_and_a_total(screen):
    counts = dict.fromkeys(report.COUNTS, 0) | {"checked": 6000, "created": 5100}
    row = {"provider": "TiteLive stocks", "venue": "Au Fil des Marées", "state": "done", "error": None, "seconds": 1.2}
    row |= counts | dict.fromkeys(report.SECONDS, 0.25) | {"records_per_second": 4600.4, "gone": 3, "held_back": 0}
    report.show_loads(screen, [row, row | {"venue": None, "error": "404: Not Found"}])
    lines = screen.console.file.getvalue().splitlines()
    assert lines[0].split()[:4] == ["provider", "venue", "state", "checked"]
    assert "Au Fil des Marées" in lines[1]
    assert "4,600" in lines[1]
    assert any(line.split()[:5] == ["all", "2", "loads", "12,000", "10,200"] for line in lines)
    assert lines[-3:] == [
        "TiteLive stocks, -: 404: Not Found",
        "TiteLive stocks, Au Fil des Marées: 3 removed, since the listing no longer has them",
        "",
    ]


def test_the_report_has_a_line_per_patch_of_an_index(screen):
    done = {"index_name": "offers", "patch": "customer_dispo", "reason": "first run", "state": "done", "dry_run": False}
    done |= {"records_read": 5000, "changed": 4981, "left_alone": 19, "batches": 5, "seconds": 0.123}
    done |= {"after_move": Decimal("6.871"), "error": None}
    dry = done | {"dry_run": True, "reason": "move", "batches": 0, "after_move": None}
    failed = dict.fromkeys(done) | {"index_name": "offers", "reason": "move", "state": "open", "error": "403: no"}
    report.show_patches(screen, [done, dry, failed, failed])
    lines = [" ".join(line.split()) for line in screen.console.file.getvalue().splitlines()]
    assert lines == [
        "index patch why state records read changed left alone batches seconds move to done s",
        "offers customer_dispo first run done 5,000 4,981 19 5 0.12 6.87",
        "offers customer_dispo move dry run 5,000 4,981 19 0 0.12 -",
        *["offers - move open - - - - - -"] * 2,
        "offers: 403: no",
        "",
    ]

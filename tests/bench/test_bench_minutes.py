"""What the soak of the per-minute DAG makes of what it saw."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from bench.search import soak_minutes
from bench.search.soak_minutes import Minute, draw_moment, scheduled, told, wait_for_pass

BEGIN = datetime(2026, 11, 20, 12, tzinfo=UTC)


def minute(number, *, delay=2.0, seconds=3.0, state="success"):
    of = BEGIN + timedelta(minutes=number)
    start = of + timedelta(seconds=delay)
    return Minute(of, state, start, start + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("minutes", "is_good", "words"),
    [
        ([minute(0), minute(1, delay=4.0), minute(2, delay=9.0)], True, "2.0 / 4.0 / 9.0 s after the minute"),
        ([minute(0, seconds=59), minute(1, delay=0.5)], False, "1 overlapped"),
        ([minute(0), minute(1, state="failed")], False, "1 failed"),
        ([minute(0), minute(3)], False, "2 minutes had no run"),
        ([minute(0), minute(1, delay=31)], False, "31.0 s after the minute"),
    ],
)
def test_minutes_are_judged(minutes, is_good, words, capsys):
    assert told([10.0, 60.0, 20.0], minutes) is is_good
    said = capsys.readouterr().out
    assert "3 moves: the last record patched 10.0 / 20.0 / 60.0 s later" in said
    assert words in said


def test_without_a_minute_it_fails(capsys):
    assert not told([], [])
    assert "no scheduled run" in capsys.readouterr().out


def test_moves_come_in_their_order_and_leave_time_for_the_last():
    moments = [draw_moment(number, 20, 10) for number in range(1, 11)]
    assert moments == sorted(moments)
    assert 0 <= moments[0] < 60
    assert moments[-1] < 20 * 60 - 90


class Api:
    """Airflow's API with so many runs, of which it gives two at a time."""

    def __init__(self, runs):
        self.runs = runs

    def request(self, method, path, *, params):
        assert (method, path) == ("GET", "/dags/algolia_customer_dispo/dagRuns")
        page = self.runs[params["offset"] : params["offset"] + 2]
        return {"dag_runs": page, "total_entries": len(self.runs)}

    def tasks(self, _dag_id, run_id):
        of = datetime.fromisoformat(run_id)
        return [{"start_date": str(of + timedelta(seconds=1)), "end_date": str(of + timedelta(seconds=4))}]


def a_run(number, kind="scheduled", state="success"):
    moment = str(BEGIN + timedelta(minutes=number))
    return {"run_type": kind, "state": state, "run_after": moment, "dag_run_id": moment}


def test_scheduled_runs_that_ended_count_but_the_first():
    runs = [a_run(3, state="running"), a_run(2), a_run(1, "manual"), a_run(1), a_run(0)]
    found = scheduled(Api(runs))
    assert [each.of.minute for each in found] == [1, 2]
    assert [each.delay for each in found] == [1.0, 1.0]


def test_a_pass_is_told_by_its_move(database, monkeypatch):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO search_index (application_id, index_name) VALUES ('a', 'b')")
        add = (
            "INSERT INTO search_pass (application_id, index_name, reason, moves, patches, state, finished_at)"
            " VALUES ('a', 'b', %s, %s::jsonb, '{p}', 'done', %s)"
        )
        connection.execute(add, ("comparison", "[]", BEGIN))
        connection.execute(add, ("move", f'[{{"at": "{BEGIN}"}}]', BEGIN + timedelta(seconds=30)))
        assert wait_for_pass(connection, None) == BEGIN
        assert wait_for_pass(connection, BEGIN + timedelta(seconds=0.9)) == BEGIN + timedelta(seconds=30)
        monkeypatch.setattr(soak_minutes, "FOLLOWED_SECONDS", 0)
        with pytest.raises(RuntimeError, match="no pass ended"):
            wait_for_pass(connection, BEGIN + timedelta(seconds=10))

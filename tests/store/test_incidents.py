"""Incidents: one row from the first failed or late run until a run is good."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from include.store import incidents


def test_from_the_first_failure_until_it_works_again(connection):
    assert incidents.find_incident(connection, "a") is None
    first = incidents.record_failure(connection, "a", "boom", "run 1")
    assert (first.failures, first.error, first.was_reported) == (1, "boom", False)
    second = incidents.record_failure(connection, "a", "bang", "run 2")
    assert (second.failures, second.error, second.began_at) == (2, "bang", first.began_at)
    assert incidents.find_incident(connection, "a") == second
    assert incidents.end_incident(connection, "a") == second
    assert incidents.end_incident(connection, "a") is None
    assert incidents.find_incident(connection, "a") is None
    again = incidents.record_failure(connection, "a", "boom", "run 2")
    assert (again.failures, again.was_reported) == (1, False)


def test_a_run_counts_once_also_when_another_failed_in_between(connection):
    for run in ("1", "1", "2", "1", "2"):
        incident = incidents.record_failure(connection, "a", f"error of {run}", run)
    assert (incident.failures, incident.error) == (2, "error of 2")
    assert incidents.record_failure(connection, "a", "", "3").error == "error of 2"


def test_a_long_incident_keeps_few_run_ids(connection):
    for number in range(100):
        incident = incidents.record_failure(connection, "a", "boom", f"run {number}")
    assert incident.failures == 100
    (kept,) = connection.execute("SELECT run_ids FROM failure_episode").fetchone()
    assert kept == [f"run {number}" for number in range(100 - incidents.MAX_RUN_IDS, 100)]


def test_a_late_run_opens_an_incident_and_a_failure_goes_on_with_it(connection):
    late = incidents.record_late(connection, "a", "late")
    assert (late.failures, late.error, late.was_reported) == (0, "late", False)
    incidents.record_late_alert(connection, "a")
    failed = incidents.record_failure(connection, "a", "boom", "1")
    assert (failed.failures, failed.error, failed.notified_at, failed.was_reported) == (1, "boom", None, True)
    again = incidents.record_late(connection, "a", "late again")
    assert (again.failures, again.error, again.late_notified_at) == (1, "boom", failed.late_notified_at)


def test_subjects_do_not_touch_each_other(connection):
    for subject in ("a", "b"):
        incidents.record_failure(connection, subject, subject, "1")
    incidents.record_alert(connection, "a")
    incidents.end_incident(connection, "a")
    incidents.end_incident(connection, "c")
    assert incidents.find_incident(connection, "b").notified_at is None


def test_failures_at_once_are_all_counted(connect):
    connections = [connect() for _ in range(4)]

    def fail(number):
        for each in range(10):
            incidents.record_failure(connections[number], "a", "boom", f"{number}/{each}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fail, range(4)))
    assert incidents.find_incident(connections[0], "a").failures == 40


def test_who_reports_a_failure_holds_the_incident_until_the_end_of_the_transaction(connect):
    first, second = connect(), connect()
    second.execute("SET lock_timeout = '50ms'")
    with first.transaction():
        incidents.record_failure(first, "a", "boom", "1")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            incidents.record_failure(second, "a", "boom", "2")
        incidents.record_alert(first, "a")
    assert incidents.record_failure(second, "a", "boom", "2").was_reported

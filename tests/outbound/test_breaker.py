"""The circuit breaker of a worker."""

import threading

import pytest

from include.errors import BaseSyncError, RecoverableSyncError, SyncConfigError, UnrecoverableSyncError
from include.outbound.breaker import FAILURE_THRESHOLD, CircuitBreaker
from include.outbound.send import ObjectResult, SendResult


def failure(error=RecoverableSyncError, **more):
    return SendResult(error=error(["down"]), **more)


def sent():
    return SendResult(objects=[ObjectResult(1, None, "sent", is_called=True)])


UNCHANGED = ObjectResult(1, None, "nothing_to_do")


def record(breaker, *results):
    for result in results:
        breaker.record(result)
    return list(results)


@pytest.mark.parametrize("error", [RecoverableSyncError, SyncConfigError])
def test_it_opens_after_consecutive_failures(error):
    breaker = CircuitBreaker()
    record(breaker, *[failure(error) for _ in range(FAILURE_THRESHOLD - 1)])
    assert not breaker.is_open
    record(breaker, failure(error))
    assert (breaker.is_open, breaker.reason) == (True, "down")
    record(breaker, sent())
    assert breaker.is_open, "it stays open for the rest of the run"


@pytest.mark.parametrize(
    "between",
    [
        sent(),
        failure(UnrecoverableSyncError),
        failure(BaseSyncError),
        failure(objects=[ObjectResult(1, None, "sent", is_called=True), ObjectResult(2, None, "failed")]),
    ],
)
def test_a_result_of_another_kind_resets_it(between):
    breaker = CircuitBreaker()
    several = [failure() for _ in range(FAILURE_THRESHOLD - 1)]
    record(breaker, *several, between, *several)
    assert not breaker.is_open


def test_unchanged_orders_do_not_reset_it():
    breaker = CircuitBreaker()
    several = [failure() for _ in range(FAILURE_THRESHOLD - 1)]
    record(breaker, *several, SendResult(objects=[UNCHANGED]), SendResult(), failure())
    assert breaker.is_open


def test_failures_are_released_when_their_cause_is_known():
    breaker = CircuitBreaker()
    results = record(breaker, sent(), failure(), sent(), failure(), failure())
    assert breaker.release(results) == 3
    results += record(breaker, sent())
    assert breaker.release(results) == 6
    results += record(breaker, *[failure() for _ in range(FAILURE_THRESHOLD)])
    assert breaker.release(results) == len(results)


def test_a_run_in_which_all_of_few_orders_fail_opens_it_at_the_end():
    breaker = CircuitBreaker()
    record(breaker, failure())
    assert not breaker.is_open
    breaker.finish()
    assert breaker.reason == "down"
    for results in ([], [SendResult(objects=[UNCHANGED]), failure()], [failure(), failure(UnrecoverableSyncError)]):
        other = CircuitBreaker()
        record(other, *results)
        other.finish()
        assert not other.is_open


def test_it_counts_the_results_of_all_threads():
    breaker = CircuitBreaker()
    threads = [threading.Thread(target=record, args=(breaker, failure())) for _ in range(FAILURE_THRESHOLD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert breaker.is_open

"""Every class of the tree of errors has its place in the retry policy; a new one has to be placed here."""

from datetime import timedelta

import pytest

from include import errors

RETRY = {
    "RetryableError",
    "ServiceUnavailable",
    "RateLimited",
    "UndecodableBody",
    "LinkBusy",
    "IndexBusy",
    "DatabaseUnavailable",
}
FAIL = {
    "FatalError",
    "ConfigurationError",
    "BodyTooLarge",
    "Unreachable",
    "UntrustedUrl",
    "AccessRefused",
    "RequestRefused",
    "RedirectsElsewhere",
    "PaginationError",
    "ErrorBudgetExceeded",
    "EarlierTaskFailed",
    "ListingShrank",
}
AIRFLOW_DECIDES = {"ProviderSyncError", "RecordError", "RejectRecord", "SkipObject", "BadImage"} | {
    "BaseSyncError",
    "RecoverableSyncError",
    "UnrecoverableSyncError",
    "SyncConfigError",
}
BY_ITS_LINKS = {"LinksFailed"}


def tree(root=errors.ProviderSyncError):
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


CLASSES = list(tree())


@pytest.fixture
def decide():
    from include.operators.retry_policy import ErrorTreePolicy

    return lambda error: ErrorTreePolicy().evaluate(error, try_number=1, max_tries=3)


def make(kind, **arguments):
    if kind is errors.LinksFailed:
        return kind({}, attempted=1)
    if issubclass(kind, errors.RequestRefused):
        arguments["status"] = 404
    if kind is errors.RedirectsElsewhere:
        arguments["target"] = "http://elsewhere"
    return kind("what happened", **arguments)


def test_every_class_is_placed_once():
    assert sorted(kind.__name__ for kind in CLASSES) == sorted([*RETRY, *FAIL, *AIRFLOW_DECIDES, *BY_ITS_LINKS])


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind.__name__ not in BY_ITS_LINKS])
def test_decision(decide, kind):
    name = kind.__name__
    expected = "retry" if name in RETRY else "fail" if name in FAIL else "default"
    decision = decide(make(kind))
    assert decision.action.value == expected
    assert decision.retry_delay is None
    if expected != "default":
        assert name in decision.reason


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind.__name__ in RETRY])
def test_a_wait_that_was_asked_for_is_kept(decide, kind):
    assert decide(make(kind, retry_after=90)).retry_delay == timedelta(seconds=90)
    assert decide(make(kind, retry_after=0)).retry_delay is None


@pytest.mark.parametrize(
    ("asked", "usual", "words"),
    [
        (None, timedelta(minutes=2), "retried in 2 min"),
        (45, timedelta(minutes=2), "retried in 45 s"),
        (5400, timedelta(minutes=2), "retried in 1.5 h"),
        (None, None, "retried"),
    ],
)
def test_the_reason_of_a_retry_says_when_it_comes(asked, usual, words):
    from types import SimpleNamespace

    from include.operators.retry_policy import ErrorTreePolicy

    context = {"task": SimpleNamespace(retry_delay=usual)}
    decision = ErrorTreePolicy().evaluate(errors.ServiceUnavailable("x", retry_after=asked), 1, 3, context)
    assert decision.reason == f"ServiceUnavailable: {words}"


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not errors.LinksFailed])
def test_links_that_failed_are_tried_again_if_that_may_help_one(decide, kind):
    decision = decide(errors.LinksFailed({"A": make(kind)}, attempted=2))
    assert decision.action.value == ("retry" if kind.__name__ in RETRY else "fail")
    mixed = errors.LinksFailed({"A": make(kind), "B": errors.LinkBusy("busy", retry_after=60)}, attempted=2)
    assert decide(mixed).action.value == "retry"


def test_the_longest_wait_of_the_links_counts(decide):
    failures = {
        "A": errors.LinkBusy("busy", retry_after=60),
        "B": errors.RateLimited("slow", retry_after=300),
        "C": errors.ServiceUnavailable("down"),
        "D": errors.RequestRefused("gone", status=404),
    }
    assert decide(errors.LinksFailed(failures, attempted=9)).retry_delay == timedelta(seconds=300)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), OSError("x"), MemoryError()], ids=repr)
def test_what_is_not_of_the_tree_takes_airflows_course(decide, error):
    assert decide(error).action.value == "default"


def test_the_drawing_of_the_tree_is_the_tree():
    drawn = [line.strip("│ ├└─").split()[0] for line in errors.__doc__.splitlines() if "──" in line]
    assert sorted(drawn) == sorted(kind.__name__ for kind in CLASSES[1:])

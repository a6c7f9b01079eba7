"""Episodes of failure: one row from the first failure until it works again."""

from concurrent.futures import ThreadPoolExecutor

from include.store import episodes


def test_from_the_first_failure_until_it_works_again(connection):
    assert episodes.find_episode(connection, "a") is None
    first = episodes.note_failure(connection, "a", "boom")
    assert (first.failures, first.error, first.notified_at) == (1, "boom", None)
    second = episodes.note_failure(connection, "a", "bang")
    assert (second.failures, second.error, second.began_at) == (2, "bang", first.began_at)
    assert episodes.find_episode(connection, "a") == second
    episodes.end_episode(connection, "a")
    assert episodes.find_episode(connection, "a") is None
    again = episodes.note_failure(connection, "a", "boom")
    assert (again.failures, again.notified_at) == (1, None)
    assert again.began_at > first.began_at


def test_once_told_stays_told(connection):
    episodes.note_failure(connection, "a", "boom")
    episodes.note_told(connection, "a")
    told = episodes.find_episode(connection, "a")
    assert told.notified_at >= told.began_at
    assert episodes.note_failure(connection, "a", "bang").notified_at == told.notified_at


def test_subjects_do_not_touch_each_other(connection):
    for subject in ("a", "b"):
        episodes.note_failure(connection, subject, subject)
    episodes.note_told(connection, "a")
    episodes.end_episode(connection, "a")
    episodes.end_episode(connection, "c")
    assert episodes.find_episode(connection, "b").notified_at is None


def test_failures_at_once_are_all_counted(connect):
    connections = [connect() for _ in range(4)]

    def fail(connection):
        for _ in range(10):
            episodes.note_failure(connection, "a", "boom")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fail, connections))
    assert episodes.find_episode(connections[0], "a").failures == 40

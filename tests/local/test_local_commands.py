"""What the commands refuse, what they do next to a running `make up`, and that they keep the state private."""

import threading
import time

import httpx
import pytest

from local import commands
from local.checkout import LocalError
from sandbox.testing import serving
from sandbox.world import Settings, World


@pytest.mark.parametrize("percent", [0, -1, 101, float("nan")])
def test_an_invalid_percentage_is_refused_in_a_sentence(local, percent):
    with pytest.raises(LocalError, match=r"^PERCENT=\S+ is invalid: specify a number above 0 and at most 100$"):
        commands.advance(local, percent)


def test_a_sync_without_a_dag_says_how_to_call_it(local):
    with pytest.raises(LocalError, match=r"^specify a DAG: `make sync DAG=<name>`; the DAGs are: a$") as raised:
        commands.sync(local, "", "")
    assert raised.value.status == 2


def test_a_sync_in_an_up_that_stops_says_so(local, up_lock):
    up_lock.publish(url="http://127.0.0.1:9", sandbox=None, conninfo="")
    stopped = threading.Timer(1, up_lock.release)
    stopped.start()
    begin = time.monotonic()
    with pytest.raises(LocalError, match=r"^`make up` \(process \d+\) has stopped, and with it the run of a$"):
        commands.sync(local, "a", "")
    assert time.monotonic() - begin < 60
    stopped.join()


def test_a_rebuild_rebuilds_the_index_of_the_running_sandbox(local, up_lock, printed):
    with serving(World(Settings(offers=20))) as url:
        up_lock.publish(sandbox=url, stand_ins=["algolia"])
        assert commands.rebuild(local) == 0
        requests = httpx.get(f"{url}/sandbox/requests", trust_env=False).json()
    expected = {"method": "POST", "path": "/1/indexes/offers_tmp/operation", "status": 200}
    assert expected.items() <= requests[-2].items()
    assert printed()[0].startswith("✓ Rebuilding the demo index")
    assert printed()[1:] == ["Index rebuilt without the patched attributes; the next run will restore them."]


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({}, "`make up` has no sandbox, or it is not ready yet: try again"),
        ({"sandbox": "http://127.0.0.1:1", "stand_ins": ["teams"]}, "algolia does not point to the sandbox"),
        ({"sandbox": "http://127.0.0.1:1", "stand_ins": ["algolia"]}, "the demo index could not be rebuilt: .+"),
    ],
)
def test_an_index_that_cannot_be_rebuilt_is_an_error_in_one_line(local, up_lock, facts, error):
    up_lock.publish(**facts)
    with pytest.raises(LocalError, match=error) as raised:
        commands.rebuild(local)
    assert "\n" not in str(raised.value)


def test_without_a_running_sandbox_there_is_no_index_to_rebuild(local):
    with pytest.raises(LocalError, match="start `make up` first"):
        commands.rebuild(local)

"""The engine against a model of it, over stories of syncs, kills and edits; `make soak` tells many more of them."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from soak.machine.machine import machine_on, set_up

FEW = settings(
    max_examples=15,
    stateful_step_count=20,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def machine(new_database):
    conninfo = new_database()
    set_up(conninfo)
    with machine_on(conninfo) as machine:
        yield machine


def test_any_story_ends_as_the_model_says(machine):
    run_state_machine_as_test(machine, settings=FEW)
    assert machine.done["stories"] >= FEW.max_examples

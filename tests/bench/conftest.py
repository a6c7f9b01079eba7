"""The database of a benchmark or soak, on the PostgreSQL of the tests."""

import pytest

from bench.database import attached


@pytest.fixture
def running(database):
    with attached(database) as attached_to:
        yield attached_to

"""A sandbox per test module, with the module's `SETTINGS`, reset for each test."""

import pytest
import requests

from sandbox.testing import serving
from sandbox.world import Settings, World

TIMEOUT = 10


@pytest.fixture(scope="module")
def world(request):
    return World(getattr(request.module, "SETTINGS", Settings(books=10, offers=0)))


@pytest.fixture(scope="module")
def served(world):
    with serving(world) as url:
        yield url


@pytest.fixture
def url(served):
    """The sandbox's URL; its data, faults and request log are in their initial state."""
    requests.post(f"{served}/sandbox/reset", timeout=TIMEOUT).raise_for_status()
    return served


@pytest.fixture
def admin(url):
    """A function that calls an admin endpoint and returns the decoded response."""

    def call(path, method="GET", status=200, **options):
        response = requests.request(method, f"{url}/sandbox/{path}", timeout=TIMEOUT, **options)
        assert response.status_code == status, response.text
        return response.json()

    return call


@pytest.fixture
def fault(admin, request):
    """A function that adds a fault rule, for the module's `SERVICE` if it has one."""
    default = {"service": request.module.SERVICE} if hasattr(request.module, "SERVICE") else {}
    return lambda fault, **rule: admin("faults", "POST", json=[{"fault": fault, **default, **rule}])

"""What holds for every target of the project. A new one gets these tests by adding a stand-in.

Each runs before the stand-in of its service, over real sockets and with a real queue. The suite is tested itself: each
check has a target that breaks its promise.
"""

import logging

import pytest

from include.errors import (
    AccessRefused,
    RecoverableSyncError,
    RequestRefused,
    RetryableError,
    SyncConfigError,
    UnrecoverableSyncError,
)
from include.targets import load_target, target_classes
from include.targets.base import StaticMapping
from local import settings
from tests.contract import target_checks as checks
from tests.contract.example_target import Crm, CrmStandIn
from tests.contract.target_stand_ins import STAND_INS
from tests.sources import CONNECTIONS, ROOT


@pytest.fixture
def case(connection, caplog):
    """A function that gives a target before a stand-in."""
    caplog.set_level(logging.INFO)
    return lambda stand_in, target=None: checks.Case(stand_in, connection, caplog, target)


@pytest.fixture(params=[*STAND_INS, CrmStandIn], ids=lambda stand_in: stand_in.target.__name__)
def stand_in(request):
    with request.param.running() as running:
        yield running


@pytest.fixture
def crm():
    with CrmStandIn.running() as running:
        yield running


def test_every_target_of_the_project_has_a_stand_in():
    assert {stand_in.target for stand_in in STAND_INS} == set(target_classes())


@pytest.mark.parametrize("target", target_classes(), ids=lambda target: target.__name__)
def test_it_is_found_by_its_path_and_has_a_dag_with_a_pool_and_a_connection(target):
    from include.operators.params import outbound_params
    from local.docs.sources import read_dags

    path = f"{target.__module__}.{target.__qualname__}"
    assert load_target(path) is target
    assert not target.conn_id or target.conn_id in CONNECTIONS
    found = [dag for dag in read_dags(ROOT / "dags").values() if getattr(dag.roots[0], "target", "") == path]
    assert len(found) == 1, f"one DAG sends to {path}"
    pools = {pool.name for pool in settings.read(ROOT / "airflow_settings.yaml").pools}
    assert found[0].get_task("send").pool in pools
    assert list(found[0].params) == list(outbound_params())


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contract(case, stand_in, check):
    check(case(stand_in))


@pytest.mark.parametrize("fault", checks.TRANSIENT)
def test_it_retries_a_failure_that_may_pass(case, stand_in, fault):
    checks.retries_a_failure_that_may_pass(case(stand_in), *checks.TRANSIENT[fault])


# The suite itself: targets that break one promise each


class Nameless(Crm):
    identifier = ""


class UnknownTrigger(Crm):
    triggers = ("shipped",)


class UnknownField(Crm):
    mappings = (StaticMapping(1, "Order", "deal", "order_number", "id", []),)


class SendsNothing(Crm):
    def sync_object_with_properties(self, **_):
        return {"action": "nothing_to_do"}


class WithoutLink(Crm):
    def sync_object_with_properties(self, **arguments):
        super().sync_object_with_properties(**arguments)
        return {"crm_id": 1}


class NewDealEachTime(Crm):
    def write(self, path, fields):
        return self.connector.request("POST", path, body=b'{"mail": "a@b"}', decode=lambda body: {"id": 1}).value


class NeverUpdates(Crm):
    def sync_object_with_properties(self, *, previous=None, **arguments):
        return {"action": "update"} if previous else super().sync_object_with_properties(**arguments)


class SendsUnchanged(Crm):
    sends_unchanged = True


class CallsWhileItEvaluates(Crm):
    def get_properties(self, inputs, property_mappings):
        CrmStandIn.called.service.requests += 1
        return super().get_properties(inputs, property_mappings)


def raising(caught, make):
    """A `write` that raises another error instead: `make` gets the target, the error and the fields."""

    def write(self, path, fields):
        try:
            return Crm.write(self, path, fields)
        except caught as error:
            raise make(self, error, fields) from error

    return write


class RetriesAWrongKey(Crm):
    write = raising(AccessRefused, lambda self, error, fields: RecoverableSyncError(["Not now"]))


class ShowsItsKey(Crm):
    write = raising(
        AccessRefused, lambda self, *_: SyncConfigError([f"401 for {self.connector.session.headers['Api-Key']}"])
    )


class ParksWithoutAName(Crm):
    write = raising(RequestRefused, lambda self, error, fields: UnrecoverableSyncError(["The CRM said no"]))


class SaysThatAllIsWrong(Crm):
    write = raising(RequestRefused, lambda self, error, fields: SyncConfigError([f"mail {fields['mail']!r}"]))


class LogsPersonalValues(Crm):
    def write(self, path, fields):
        logging.getLogger("crm").info("Writing %s", fields)
        return super().write(path, fields)


class FailsToClose(Crm):
    def close(self):
        raise RuntimeError("still open")


class ParksEveryFailure(Crm):
    write = raising(RetryableError, lambda self, error, fields: UnrecoverableSyncError([str(error)]))


class SwallowsFailures(Crm):
    def write(self, path, fields):
        try:
            return super().write(path, fields)
        except RetryableError:
            return {"id": 0}


class ForgetsTheWait(Crm):
    write = raising(RetryableError, lambda self, error, fields: RecoverableSyncError(["Not now"]))

    def next_retry_date(self, queue_row):
        return queue_row.triggered_at


BROKEN = [
    (Nameless, checks.declares_what_the_engine_needs),
    (UnknownTrigger, checks.declares_what_the_engine_needs),
    (UnknownField, checks.its_mappings_are_valid),
    (SendsNothing, checks.creates_and_links_each_object),
    (WithoutLink, checks.creates_and_links_each_object),
    (NewDealEachTime, checks.updates_what_changed),
    (NewDealEachTime, checks.may_send_the_same_values_twice),
    (NeverUpdates, checks.updates_what_changed),
    (SendsUnchanged, checks.sends_nothing_if_nothing_changed),
    (CallsWhileItEvaluates, checks.a_dry_run_sends_nothing),
    (RetriesAWrongKey, checks.a_wrong_key_is_a_configuration_error_and_stays_secret),
    (ShowsItsKey, checks.a_wrong_key_is_a_configuration_error_and_stays_secret),
    (ParksWithoutAName, checks.parks_unusable_values_by_name),
    (SaysThatAllIsWrong, checks.parks_unusable_values_by_name),
    (LogsPersonalValues, checks.personal_values_are_not_logged),
    (FailsToClose, checks.every_instance_is_closed),
]


@pytest.mark.parametrize(("target", "check"), BROKEN, ids=lambda value: value.__name__)
def test_a_broken_promise_is_noticed(case, crm, monkeypatch, target, check):
    monkeypatch.setattr(CrmStandIn, "called", crm, raising=False)
    with pytest.raises((AssertionError, RuntimeError)):
        check(case(crm, target))


def test_each_check_has_a_target_that_breaks_it():
    assert {check for _, check in BROKEN} == set(checks.CHECKS)


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        *((target, fault) for target in (ParksEveryFailure, SwallowsFailures) for fault in checks.TRANSIENT),
        (ForgetsTheWait, "429"),
        (ForgetsTheWait, "503"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_failure_that_is_not_retried_is_noticed(case, crm, target, fault):
    with pytest.raises(AssertionError):
        checks.retries_a_failure_that_may_pass(case(crm, target), *checks.TRANSIENT[fault])

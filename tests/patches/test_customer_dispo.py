"""The rule of `customerDispo`, combination by combination."""

import pytest

from include.patches.customer_dispo import customer_dispo, near_miss

MISSING = ...  # its name in the ids of tests is the same in every process
NEVER = (1, 5, 1.0, 5.0, "1", "5", "5.0", " 5 ", "01", "5e0")
MAYBE = (0, 2, 3, 4, 15, -5, 1.5, 5.01, "2", "x", "", " ", "1,0", "cinq", None, MISSING, True, False)
ODD = ([5], {"id": 5}, [], "nan", "inf", 10**400, "1" * 400)
NEAR = ("En stock", "EN STOCK", " en stock ", "en  stock", "en-stock", "en_stock", "en\u00a0stock", "En\tStock\n")
TEXTS = ("sur commande", "stock", "enstock", "pas en stock", "en stock.", "disponible", "")
OTHERS = (*TEXTS, None, 0, 5, True, ["en stock"])


def record(**attributes):
    return {"objectID": "7"} | {name: value for name, value in attributes.items() if value is not MISSING}


@pytest.mark.parametrize("nature", NEVER, ids=repr)
def test_elite_and_proxauto_are_never_available(nature):
    assert customer_dispo(record(nature=nature, disponibiliteForFO="en stock")) == {"customerDispo": "en stock"}


@pytest.mark.parametrize("nature", [*MAYBE, *ODD], ids=lambda value: repr(value)[:20])
def test_of_any_other_nature_what_is_in_stock_is_available(nature):
    assert customer_dispo(record(nature=nature, disponibiliteForFO="en stock")) == {"customerDispo": "disponible"}


@pytest.mark.parametrize("nature", [*NEVER, *MAYBE, *ODD], ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("availability", [*NEAR, *OTHERS], ids=repr)
def test_any_other_availability_is_copied_whatever_the_nature(nature, availability):
    values = customer_dispo(record(nature=nature, disponibiliteForFO=availability))
    assert values == {"customerDispo": availability}
    assert type(values["customerDispo"]) is type(availability)


@pytest.mark.parametrize("nature", [*NEVER, *MAYBE, *ODD], ids=lambda value: repr(value)[:20])
def test_without_an_availability_the_record_is_left_alone(nature):
    assert customer_dispo(record(nature=nature)) == {}
    assert customer_dispo(record(nature=nature, customerDispo="disponible")) == {}


@pytest.mark.parametrize("availability", NEAR, ids=repr)
def test_near_misses_are_remarked_and_copied(availability):
    assert (
        near_miss(record(disponibiliteForFO=availability)) == f"disponibiliteForFO {availability!r} is not 'en stock'"
    )


@pytest.mark.parametrize("availability", ["en stock", MISSING, *OTHERS], ids=repr)
def test_what_is_meant_otherwise_is_no_near_miss(availability):
    assert near_miss(record(disponibiliteForFO=availability)) is None

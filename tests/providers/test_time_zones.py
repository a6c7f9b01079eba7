from datetime import datetime, timedelta

import pytest

from include.providers.time_zones import OVERSEAS, zone_of


@pytest.mark.parametrize(
    ("departement", "hours"),
    [("75", 1), ("2A", 1), (None, 1), ("971", -4), ("973", -3), ("974", 4), ("975", -3), ("976", 3), ("987", -10),
     ("988", 11)],
)  # fmt: skip
def test_winter_time_of_departements(departement, hours):
    moment = datetime(2026, 1, 15, 12, tzinfo=zone_of(departement))
    assert moment.utcoffset() == timedelta(hours=hours)


def test_summer_time_is_kept_only_where_it_is():
    for departement, hours in (("75", 2), ("974", 4)):
        assert datetime(2026, 7, 15, 12, tzinfo=zone_of(departement)).utcoffset() == timedelta(hours=hours)


@pytest.mark.parametrize("departement", OVERSEAS)
def test_every_zone_exists(departement):
    assert zone_of(departement).key == OVERSEAS[departement]

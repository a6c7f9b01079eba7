"""The connections, variables and pools in `airflow_settings.yaml`."""

from __future__ import annotations

from local import settings
from local.docs.sources import Sources, table


def _read(sources: Sources) -> settings.Settings:
    return settings.read(sources.root / "airflow_settings.yaml")


def connections(sources: Sources) -> str:
    """Return a line per connection. The values in the file are those of the demo, so they are left out."""
    rows = [
        (f"`{each.id}`", f"`{each.type}`", f"`{each.variable}`", each.description or "")
        for each in _read(sources).connections
    ]
    return table(("Connection", "Type", "Override", "What it is"), rows)


def variables(sources: Sources) -> str:
    """Return a line per variable that the file sets."""
    rows = [(f"`{name}`", f"`{value}`") for name, value in _read(sources).variables.items()]
    return table(("Variable", "Value in `airflow_settings.yaml`"), rows)


def pools(sources: Sources) -> str:
    """Return a line per pool."""
    return table(
        ("Pool", "Slots", "What it limits"),
        [(f"`{pool.name}`", str(pool.slots), pool.description) for pool in _read(sources).pools],
    )

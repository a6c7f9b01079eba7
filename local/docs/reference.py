"""Tables of the reference pages: commands, settings, source fields, and the relations of the database."""

from __future__ import annotations

import re
from dataclasses import fields

from local import settings
from local.docs.sources import Sources, table

_COMMAND = re.compile(r"^##@ (?P<group>.+)$|^(?P<name>[a-z-]+):.*?## (?P<text>.+)$", re.MULTILINE)
_RELATIONS = """
    SELECT oid, relname, coalesce(obj_description(oid), '') FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = %s AND relname <> 'alembic_version' ORDER BY relname
"""
_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod), attnotnull, coalesce(col_description(attrelid, attnum), '')
    FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_FUNCTIONS = """
    SELECT proname, pg_get_function_identity_arguments(oid), pg_get_function_result(oid), obj_description(oid)
    FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype
        AND has_function_privilege('public', oid, 'EXECUTE') AND obj_description(oid) IS NOT NULL
    ORDER BY proname
"""


def commands(sources: Sources) -> str:
    """Return the commands of the Makefile: a table per group of `make help`."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for found in _COMMAND.finditer((sources.root / "Makefile").read_text(encoding="utf-8")):
        if found["group"]:
            rows = groups[found["group"]] = []
        else:
            rows.append((f"`make {found['name']}`", found["text"]))
    return "\n\n".join(f"## {group}\n\n{table(('Command', 'What it does'), rows)}" for group, rows in groups.items())


def _settings(sources: Sources) -> settings.Settings:
    return settings.read(sources.root / "airflow_settings.yaml")


def connections(sources: Sources) -> str:
    """Return a line per connection. The values in the file are those of the demo, so they are left out."""
    found = _settings(sources).connections
    rows = [(f"`{each.id}`", f"`{each.type}`", f"`{each.variable}`", each.description or "") for each in found]
    return table(("Connection", "Type", "Override", "What it is"), rows)


def variables(sources: Sources) -> str:
    """Return a line per variable that the file sets."""
    rows = [(f"`{name}`", f"`{value}`") for name, value in _settings(sources).variables.items()]
    return table(("Variable", "Value in `airflow_settings.yaml`"), rows)


def pools(sources: Sources) -> str:
    """Return a line per pool."""
    rows = [(f"`{pool.name}`", str(pool.slots), pool.description) for pool in _settings(sources).pools]
    return table(("Pool", "Slots", "What it limits"), rows)


def sandbox_settings(_: Sources) -> str:
    """Return a line per setting of the sandbox."""
    from sandbox.world import Settings

    rows = [(f"`{each.name}`", f"`{each.default!r}`", each.metadata["help"]) for each in fields(Settings)]
    return table(("Setting", "Default", "Meaning"), rows)


def source_fields(_: Sources) -> str:
    """Return a table per source model; a position also has the fields of its order, a stock those of its offer."""
    from include.targets.fields import data_fields

    chapters = []
    for parent, child in (("Order", "OrderPosition"), ("Offer", "Stock")):
        inherited = data_fields(None, parent)
        own = {key: field for key, field in data_fields(None, child).items() if key not in inherited}
        for title, found in ((parent, inherited), (f"{child}, in addition to those of {parent}", own)):
            rows = [(f"`{key}`", field.label) for key, field in found.items()]
            chapters.append(f"### {title}\n\n{table(('Field', 'Label'), rows)}")
    return "\n\n".join(chapters)


def relations(sources: Sources, kind: str) -> str:
    """Return the `tables`, the `views`, or the `functions` that everybody may call, with their comments."""
    query = sources.database.execute
    if kind == "functions":
        functions = query(_FUNCTIONS).fetchall()
        rows = [(f"`{name}({arguments})`", f"`{result}`", text) for name, arguments, result, text in functions]
        return table(("Function", "Returns", "What it does"), rows)
    chapters = []
    for oid, name, text in query(_RELATIONS, ({"tables": "r", "views": "v"}[kind],)).fetchall():
        columns = query(_COLUMNS, (oid,)).fetchall()
        rows = [(f"`{column}`", f"`{of}`" + ", required" * required, about) for column, of, required, about in columns]
        chapters.append(f"### {name}\n\n{text}\n\n{table(('Column', 'Type', 'Meaning'), rows)}")
    return "\n\n".join(chapters)

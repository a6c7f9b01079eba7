"""The parameters of the DAGs: each trigger form once, with the DAGs that have it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from local.docs.sources import Sources, table

if TYPE_CHECKING:
    from airflow.sdk import DAG


def forms(sources: Sources) -> str:
    """Return a chapter per form."""
    chapters = []
    for title, form in _forms().items():
        dags = [dag.dag_id for dag in sources.dags.values() if title in of_dag(dag)[0]]
        links = ", ".join(f"[{dag_id}](dags.md#{dag_id})" for dag_id in dags)
        chapters.append(f"## {title}\n\nOf {links}.\n\n{table_of_parameters(form)}")
    return "\n\n".join(chapters)


def of_dag(dag: DAG) -> tuple[list[str], dict[str, Any]]:
    """Return the titles of the forms that a DAG has, and the parameters of its own by name."""
    own = {name: dag.params.get_param(name) for name in dag.params}
    titles = []
    for title, form in _forms().items():
        if form and all(name in own and _line(name, own[name]) == _line(name, form[name]) for name in form):
            titles.append(title)
            own = {name: param for name, param in own.items() if name not in form}
    return titles, own


def table_of_parameters(params: Mapping[str, Any]) -> str:
    """Return a line per parameter: type with bounds, default, and the text of the form."""
    return table(("Parameter", "Type", "Default", "Meaning"), [_line(name, param) for name, param in params.items()])


def _forms() -> dict[str, dict[str, Any]]:
    from include.operators import params

    return {
        "Inbound DAGs": params.sync_params(),
        "Venue links": params.venue_link_params(),
        "Outbound DAGs": params.outbound_params(),
        "Search DAGs": params.search_params(),
    }


def _line(name: str, param: Any) -> tuple[str, str, str, str]:
    schema = param.schema
    kinds = schema.get("type", "any")
    names = [kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind != "null"]
    if "enum" in schema:
        names = [f"`{json.dumps(value)}`" for value in schema["enum"] if value is not None]
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    default = "" if param.value in (None, [], {}) else f"`{json.dumps(param.value)}`"
    return f"`{name}`", " ".join([" or ".join(names), *bounds]), default, param.description or ""

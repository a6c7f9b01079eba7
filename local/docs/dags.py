"""What DAGs there are, when they run, what they update, and their parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from local.docs.sources import Sources, table

if TYPE_CHECKING:
    from airflow.sdk import DAG


def table_of_dags(sources: Sources, page: str) -> str:
    """Return a line per DAG, linked to its chapter on `page`."""
    rows = []
    for dag_id, dag in sources.dags.items():
        schedule = _schedule(dag)
        # `dag_defaults` appends the schedule to the description.
        purpose = (dag.description or _title(dag)).removesuffix(f" {schedule}.")
        rows.append((f"[`{dag_id}`]({page}#{dag_id})", purpose, schedule))
    return table(("DAG", "What it does", "Schedule"), rows)


def chapters(sources: Sources) -> str:
    """Return a chapter per DAG: its docstring, facts, and the parameters that no other DAG has.

    A paragraph with a bold label, such as *Triage*, that an earlier DAG has too is replaced by a link to that one.
    """
    first: dict[str, str] = {}
    return "\n\n".join(part for dag in sources.dags.values() for part in _chapter(dag, first))


def _chapter(dag: DAG, first: dict[str, str]) -> Iterator[str]:
    yield f"## {dag.dag_id}"
    yield f"**{_title(dag)}**"
    for paragraph in (dag.doc_md or "").strip().split("\n\n")[1:]:
        same = first.setdefault(paragraph, dag.dag_id)
        label = re.match(r"\*\*.+?\*\*", paragraph)
        yield paragraph if same == dag.dag_id or not label else f"{label[0]} As for [{same}](#{same})."
    forms_of_dag, own = _params(dag)
    links = [f"[{title}](parameters.md#{title.lower().replace(' ', '-')})" for title in forms_of_dag]
    tasks = dag.task_group.topological_sort()
    assets = {outlet.name for task in dag.tasks for outlet in getattr(task, "outlets", None) or ()}
    initial = {True: "paused", False: "unpaused", None: "as Airflow's `dags_are_paused_at_creation` says"}
    facts = {
        "Schedule": _schedule(dag),
        "Runs": f"at most {dag.max_active_runs} at a time, each for at most {_duration(dag.dagrun_timeout)}",
        "In a new installation": initial[dag.is_paused_upon_creation],
        "Tasks": " → ".join(f"`{task.node_id}`" + " (mapped)" * getattr(task, "is_mapped", False) for task in tasks),
        "Pool": ", ".join(sorted({f"`{task.pool}`" for task in dag.tasks})),
        "Retries": ", ".join(sorted({f"{task.retries}, {_duration(task.retry_delay)} apart" for task in dag.tasks})),
        "Updates assets": ", ".join(f"`{name}`" for name in sorted(assets)) or "none",
        "Tags": ", ".join(f"`{tag}`" for tag in sorted(dag.tags)),
        "Parameters": ", ".join([*links, *(["its own below"] if own else [])]) or "none",
    }
    yield table(("", ""), list(facts.items()))
    if own:
        yield _table_of_params(own)


def _title(dag: DAG) -> str:
    return (dag.doc_md or "").strip().partition("\n")[0].lstrip("# ") or dag.dag_id


def _schedule(dag: DAG) -> str:
    from include.operators.defaults import schedule_in_words

    if not dag.timetable.can_be_scheduled:
        return schedule_in_words(None)
    expression, zone = (getattr(dag.timetable, name, None) for name in ("expression", "timezone"))
    return (
        schedule_in_words(expression, str(getattr(zone, "name", zone))) if expression else "On a timetable of its own"
    )


def _duration(span: timedelta | float | None) -> str:
    if span is None:
        return "any time"
    seconds = span.total_seconds() if isinstance(span, timedelta) else float(span)
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"


def forms(sources: Sources) -> str:
    """Return each trigger form once, with the DAGs that have it."""
    text = []
    for title, form in _forms().items():
        links = [f"[{name}](dags.md#{name})" for name, dag in sources.dags.items() if title in _params(dag)[0]]
        text.append(f"## {title}\n\nOf {', '.join(links)}.\n\n{_table_of_params(form)}")
    return "\n\n".join(text)


def _forms() -> dict[str, dict[str, Any]]:
    from include.operators import params

    return {
        "Inbound DAGs": params.sync_params(),
        "Venue links": params.venue_link_params(),
        "Outbound DAGs": params.outbound_params(),
        "Search DAGs": params.search_params(),
    }


def _params(dag: DAG) -> tuple[list[str], dict[str, Any]]:
    """Return the titles of the forms that a DAG has, and the parameters of its own by name."""
    own = {name: dag.params.get_param(name) for name in dag.params}
    titles = []
    for title, form in _forms().items():
        if all(name in own and _line(name, own[name]) == _line(name, form[name]) for name in form):
            titles.append(title)
            own = {name: param for name, param in own.items() if name not in form}
    return titles, own


def _table_of_params(params: Mapping[str, Any]) -> str:
    return table(("Parameter", "Type", "Default", "Meaning"), [_line(name, param) for name, param in params.items()])


def _line(name: str, param: Any) -> tuple[str, str, str, str]:
    """Return name, type with bounds, default, and the text of the form."""
    schema = param.schema
    kinds = schema.get("type", "any")
    names = [kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind != "null"]
    if "enum" in schema:
        names = [f"`{json.dumps(value)}`" for value in schema["enum"] if value is not None]
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    default = "" if param.value in (None, [], {}) else f"`{json.dumps(param.value)}`"
    return f"`{name}`", " ".join([" or ".join(names), *bounds]), default, param.description or ""

"""What DAGs there are, when they run and what they update."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from local.docs.parameters import of_dag, table_of_parameters
from local.docs.sources import Sources, table

if TYPE_CHECKING:
    from airflow.sdk import DAG


def table_of_dags(sources: Sources, page: str = "") -> str:
    """Return a line per DAG, linked to its chapter on `page`."""
    return table(
        ("DAG", "What it does", "Schedule"),
        [(f"[`{dag.dag_id}`]({page}#{dag.dag_id})", _purpose(dag), _schedule(dag)) for dag in sources.dags.values()],
    )


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
    groups, own = of_dag(dag)
    links = [f"[{title}](parameters.md#{title.lower().replace(' ', '-')})" for title in groups]
    facts = {
        "Schedule": _schedule(dag),
        "Runs": f"at most {dag.max_active_runs} at a time, each for at most {_duration(dag.dagrun_timeout)}",
        "In a new installation": _initial_state(dag),
        "Tasks": " → ".join(f"`{task.task_id}`" + (" (mapped)" if task.is_mapped else "") for task in _in_order(dag)),
        "Pool": ", ".join(sorted({f"`{task.pool}`" for task in dag.tasks})),
        "Retries": ", ".join(sorted({f"{task.retries}, {_duration(task.retry_delay)} apart" for task in dag.tasks})),
        "Updates assets": ", ".join(f"`{name}`" for name in _assets(dag)) or "none",
        "Tags": ", ".join(f"`{tag}`" for tag in sorted(dag.tags)),
        "Parameters": ", ".join([*links, *(["its own below"] if own else [])]) or "none",
    }
    yield table(("", ""), list(facts.items()))
    if own:
        yield table_of_parameters(own)


def _in_order(dag: DAG) -> list[Any]:
    """Return the tasks, each after those it waits for; by name where the order is open."""
    done: dict[str, Any] = {}
    while len(done) < len(dag.tasks):
        ready = [t for t in dag.tasks if t.task_id not in done and t.upstream_task_ids <= done.keys()]
        done |= {task.task_id: task for task in sorted(ready, key=lambda task: str(task.task_id))}
    return list(done.values())


def _title(dag: DAG) -> str:
    return (dag.doc_md or "").strip().partition("\n")[0].lstrip("# ") or dag.dag_id


def _purpose(dag: DAG) -> str:
    """The description of the DAG, without the schedule that `dag_defaults` adds to it."""
    return (dag.description or _title(dag)).removesuffix(f" {_schedule(dag)}.")


def _schedule(dag: DAG) -> str:
    from include.operators.defaults import schedule_in_words

    timetable = dag.timetable
    if not timetable.can_be_scheduled:
        return schedule_in_words(None)
    expression = getattr(timetable, "expression", None)
    if expression is None:
        return "On a timetable of its own"
    zone = getattr(timetable, "timezone", None)
    return schedule_in_words(expression, str(getattr(zone, "name", zone)))


def _initial_state(dag: DAG) -> str:
    words = {True: "paused", False: "unpaused", None: "as Airflow's `dags_are_paused_at_creation` says"}
    return words[dag.is_paused_upon_creation]


def _assets(dag: DAG) -> list[str]:
    return sorted({outlet.name for task in dag.tasks for outlet in getattr(task, "outlets", None) or []})


def _duration(span: timedelta | float | None) -> str:
    if span is None:
        return "any time"
    seconds = span.total_seconds() if isinstance(span, timedelta) else float(span)
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"

"""`DAGS.md`, written from the DAGs: what there is, when it runs, what can be asked of it.

`python -m local.dags_md` writes the file; with `--check` it only compares, and exits with 1 and the difference.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "DAGS.md"

Rows = Sequence[Sequence[str]]


def document(dags: Mapping[str, DAG]) -> str:
    """The whole file; the same DAGs always give the same text."""
    ordered = [dags[dag_id] for dag_id in sorted(dags)]
    overview = [
        (
            f"[{dag.dag_id}](#{dag.dag_id})",
            _title(dag),
            _schedule(dag),
            ", ".join(f"`{name}`" for name in dag.params) or "none",
        )
        for dag in ordered
    ]
    parts = [
        "# DAGs",
        "Written from `dags/` by `make docs`; `make docs-check` fails when it differs. Do not edit.",
        _table(("DAG", "What", "Schedule", "Parameters"), overview),
    ]
    for dag in ordered:
        parts += _chapter(dag)
    return "\n\n".join(parts) + "\n"


def _chapter(dag: DAG) -> Iterator[str]:
    yield f"## {dag.dag_id}"
    yield f"**{_title(dag)}**"
    yield (dag.doc_md or "").strip().partition("\n")[2].strip()
    facts = {
        "Schedule": _schedule(dag),
        "Catch up": "yes" if dag.catchup else "no",
        "Runs at once": str(dag.max_active_runs),
        "Longest run": _duration(dag.dagrun_timeout),
        "In a new installation": _at_first(dag),
        "Owner": dag.owner,
        "Tags": ", ".join(f"`{tag}`" for tag in sorted(dag.tags)),
        "Updates": ", ".join(f"`{name}`" for name in _assets(dag)) or "no asset",
    }
    yield _table(("About it", ""), list(facts.items()))
    if dag.params:
        yield "### Parameters"
        yield _table(("Parameter", "Type", "Default", "Meaning"), [_param(dag, name) for name in dag.params])
    yield "### Tasks"
    yield _table(
        ("Task", "Operator", "After", "Pool", "Retries", "Longest try"),
        [
            (
                f"`{task.task_id}`" + (", mapped" if task.is_mapped else ""),
                task.task_type,
                ", ".join(f"`{task_id}`" for task_id in sorted(task.upstream_task_ids)) or "",
                "" if task.pool == "default_pool" else f"`{task.pool}`",
                f"{task.retries}, {_duration(task.retry_delay)} apart",
                _duration(task.execution_timeout),
            )
            for task in _in_order(dag)
        ],
    )


def _in_order(dag: DAG) -> list[Any]:
    """Tasks after those they wait for, by name where the order is open."""
    done: dict[str, Any] = {}
    while len(done) < len(dag.tasks):
        ready = [t for t in dag.tasks if t.task_id not in done and t.upstream_task_ids <= done.keys()]
        done |= {task.task_id: task for task in sorted(ready, key=lambda task: str(task.task_id))}
    return list(done.values())


def _title(dag: DAG) -> str:
    return (dag.doc_md or "").strip().partition("\n")[0].lstrip("# ") or dag.dag_id


def _at_first(dag: DAG) -> str:
    words = {True: "paused", False: "unpaused", None: "as Airflow's `dags_are_paused_at_creation` says"}
    return words[dag.is_paused_upon_creation]


def _schedule(dag: DAG) -> str:
    timetable = dag.timetable
    if not timetable.can_be_scheduled:
        return "on demand"
    expression = getattr(timetable, "expression", None)
    if expression is None:
        return str(getattr(timetable, "summary", "") or type(timetable).__name__)
    zone = getattr(timetable, "timezone", None)
    return f"`{expression}`" + (f" {getattr(zone, 'name', zone)}" if zone else "")


def _assets(dag: DAG) -> list[str]:
    return sorted({outlet.name for task in dag.tasks for outlet in getattr(task, "outlets", None) or []})


def _param(dag: DAG, name: str) -> tuple[str, str, str, str]:
    param = dag.params.get_param(name)
    schema = param.schema
    kinds = schema.get("type", "any")
    names = [kinds] if isinstance(kinds, str) else list(kinds)
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    told = [" ".join([" or ".join(name for name in names if name != "null"), *bounds])]
    told += ["or null"] if "null" in names else []
    return (
        f"`{name}`",
        ", ".join(told),
        f"`{json.dumps(param.value)}`",
        param.description or schema.get("description") or "",
    )


def _duration(span: timedelta | float | None) -> str:
    if span is None:
        return ""
    seconds = span.total_seconds() if isinstance(span, timedelta) else float(span)
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"


def _table(head: Sequence[str], rows: Rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def read_dags(folder: Path = ROOT / "dags") -> dict[str, DAG]:
    """The DAGs of a folder; what cannot be imported is an error."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(folder))
    if bag.import_errors:
        raise SystemExit("\n".join(f"{name} cannot be imported:\n{error}" for name, error in bag.import_errors.items()))
    if not bag.dags:
        raise SystemExit(f"There is no DAG in {folder}")
    return dict(bag.dags)


def main(given: Sequence[str] | None = None, file: Path = FILE) -> int:
    """Write the file, or compare it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m local.dags_md", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare; 1 if it differs")
    options = parser.parse_args(given)
    wanted = document(read_dags())
    held = file.read_text(encoding="utf-8") if file.exists() else ""
    if not options.check:
        file.write_text(wanted, encoding="utf-8")
        return 0
    difference = difflib.unified_diff(held.splitlines(), wanted.splitlines(), file.name, "the DAGs", lineterm="")
    if shown := "\n".join(difference):
        print(f"{shown}\n{file.name} is not what the DAGs say: run `make docs`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Running DAGs: trigger, follow to the end, show the logs of what failed."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from include import errors
from local.airflow import Api
from local.checkout import LocalError
from local.console import Screen

POLL_SECONDS = 0.7
UNFINISHED = ("queued", "running")
FAILED = ("failed", "upstream_failed")
SAY_SECONDS = 60
"""After how long without a change the runs that are not finished are named."""

AIRFLOWS_GROUPS = ("::group::Pre Execute", "::group::Post Execute")
"""What Airflow logs around every task."""
AIRFLOWS_NOISE = (
    "DAG bundles loaded",
    "Filling up the DagBag",
    "Worker startup parse complete",
    "Pushing xcom",
    "Task instance is in running state",
    "Current task name",
    "Previous state of the Task instance",
)
"""What Airflow logs of every task, whatever the task does."""
DECISION = "Retry policy decision"
AIRFLOWS_CODE = "/site-packages/airflow/"
VENUE = "  - "
"""Begins a line of an error that names what failed in it; each of those was logged when it failed."""


@dataclass(frozen=True)
class Run:
    """A run we triggered."""

    dag_id: str
    run_id: str


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run: Run
    state: str
    seconds: float
    tasks: list[dict[str, Any]]

    @property
    def worked(self) -> bool:
        """True if the run is green."""
        return self.state == "success"


def end_cut_off_runs(api: Api, dag_ids: Iterable[str]) -> int:
    """Fail the runs that were under way when an earlier Airflow ended, so that they do not run beside ours."""
    count, known = 0, api.dags()
    for dag_id in dag_ids:
        if dag_id not in known:
            continue
        for run in api.runs(dag_id, UNFINISHED):
            api.fail_run(dag_id, run["dag_run_id"], "Cut off when the local run ended.")
            count += 1
    return count


def trigger(api: Api, dag_ids: Iterable[str], conf: Mapping[str, Any] | None = None) -> list[Run]:
    """Start a run of each DAG."""
    return [Run(dag_id, api.trigger(dag_id, conf)) for dag_id in dag_ids]


def follow(
    api: Api,
    runs: Iterable[Run],
    screen: Screen,
    *,
    task_logs: Path,
    check: Callable[[], None],
    each_round: Callable[[], None] = lambda: None,
    limit_seconds: float | None = None,
) -> list[Outcome]:
    """Follow the runs to their end, printing what changes."""
    open_runs = list(runs)
    outcomes: list[Outcome] = []
    shown: dict[Run, str] = {}
    retries: set[tuple[Run, str, int]] = set()
    begin = changed = time.monotonic()
    while open_runs:
        check()
        each_round()
        for run in open_runs.copy():
            state, tasks = api.run(run.dag_id, run.run_id), api.tasks(run.dag_id, run.run_id)
            if (progress := _progress(state, tasks)) != shown.get(run):
                shown[run], changed = progress, time.monotonic()
                screen.say(f"  {run.dag_id:<30} {progress}")
            for task in tasks:
                if task["state"] == "up_for_retry" and (run, task["id"], task["try_number"]) not in retries:
                    retries.add((run, task["id"], task["try_number"]))
                    name, log = label(task["task_id"], task["map_index"]), _log_of(run, task, task_logs)
                    screen.say(f"  {run.dag_id:<30} {name} failed; {why_again(log)}: {log or 'it left no log'}")
            if state["state"] not in UNFINISHED:
                outcomes.append(Outcome(run, state["state"], _seconds(state), tasks))
                open_runs.remove(run)
        if limit_seconds is not None and time.monotonic() - begin > limit_seconds and open_runs:
            names = ", ".join(run.dag_id for run in open_runs)
            raise LocalError(f"not finished after {limit_seconds:.0f} s: {names}")
        if open_runs:
            if time.monotonic() - changed > SAY_SECONDS:
                changed = time.monotonic()
                names = ", ".join(run.dag_id for run in open_runs)
                screen.say(f"  waiting for {names}: running for {changed - begin:.0f} s")
            time.sleep(POLL_SECONDS)
    each_round()
    return outcomes


def failed_logs(outcome: Outcome, task_logs: Path) -> Iterator[tuple[str, Path | None]]:
    """The failed tasks of a run and their logs; a task that never started has none."""
    for task in outcome.tasks:
        if task["state"] == "failed":
            yield label(task["task_id"], task["map_index"]), _log_of(outcome.run, task, task_logs)


def tail(path: Path, count: int = 30) -> str:
    """The end of a task log, readable."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [line for entry in text.splitlines() for line in readable(entry)]
    return "\n".join(f"    {line}" for line in lines[-count:])


def readable(text: str) -> list[str]:
    """A line of a task log, which is JSON, as a person reads it; none for what Airflow logs of every task.

    Of the marks by which the web UI folds groups, the titles stay; of a traceback, the end of our own part.
    """
    try:
        entry = json.loads(text)
        moment = datetime.fromisoformat(entry["timestamp"]).astimezone().strftime("%H:%M:%S")
        lines = str(entry["event"]).splitlines() or [""]
    except (ValueError, KeyError, TypeError):
        return [text] if text.strip() else []
    level = str(entry.get("level", "info"))
    if lines[0].startswith("::endgroup::") or lines[0] in AIRFLOWS_GROUPS:
        return []
    if level in ("info", "debug") and lines[0].startswith(AIRFLOWS_NOISE):
        return []
    if lines[0] == DECISION and "action" in entry:
        lines[0] = f"{DECISION}: {entry['action']}" + (f", {entry['reason']}" if entry.get("reason") else "")
    lines[0] = lines[0].removeprefix("::group::")
    lines[0] = f"{moment} {'' if level == 'info' else level.upper() + ' '}{lines[0]}"
    for error in entry.get("error_detail") or []:
        is_ours = hasattr(errors, str(error.get("exc_type")))  # says by itself what happened and where
        frames = [frame for frame in error.get("frames") or [] if AIRFLOWS_CODE not in str(frame["filename"])]
        frames = [] if is_ours else frames
        lines += [f"  {frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in frames[-6:]]
        told = f"{error.get('exc_type')}: {error.get('exc_value')}".splitlines()
        kept = [line for line in told if not line.startswith(VENUE)]
        kept[-1] = kept[-1].rstrip(":") if len(kept) < len(told) else kept[-1]
        lines += kept
    return lines


def why_again(log: Path | None) -> str:
    """That a task is tried again, and, as far as its log tells, why and when."""
    entries = log.read_text(encoding="utf-8", errors="replace").splitlines() if log else []
    for text in reversed(entries):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = json.loads(text)
            if entry["event"] == DECISION:
                return str(entry["reason"])
    return "it is tried again"


def tells(log: Path, told: Iterable[str]) -> bool:
    """Whether the log of a failed task has one of these errors, which were printed already."""
    wanted = [error for error in told if error]
    for text in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = json.loads(text)
            said = [str(entry["event"]), *(str(error["exc_value"]) for error in entry.get("error_detail") or [])]
            if any(error in each for error in wanted for each in said):
                return True
    return False


class LogFollower:
    """Prints the task logs of a run as they grow."""

    def __init__(self, run: Run, task_logs: Path, screen: Screen) -> None:
        self._folder = _folder(run, task_logs)
        self._screen = screen
        self._read: dict[Path, int] = {}

    def __call__(self) -> None:
        """Print what is new."""
        for path in sorted(self._folder.rglob("attempt=*.log")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                whole = file.read().rpartition(b"\n")[0]
            if not whole:
                continue
            self._read[path] = self._read.get(path, 0) + len(whole) + 1
            parts = dict(part.split("=", 1) for part in path.relative_to(self._folder).with_suffix("").parts)
            name = label(parts["task_id"], int(parts.get("map_index", -1)))
            for text in whole.decode(errors="replace").splitlines():
                for line in readable(text):
                    self._screen.say(f"  {name} | {line}")


def label(task_id: str, map_index: int) -> str:
    """How a task instance is called."""
    return task_id if map_index < 0 else f"{task_id}[{map_index}]"


def _folder(run: Run, task_logs: Path) -> Path:
    return task_logs / f"dag_id={run.dag_id}" / f"run_id={run.run_id}"


def _log_of(run: Run, task: Mapping[str, Any], task_logs: Path) -> Path | None:
    folder = _folder(run, task_logs) / f"task_id={task['task_id']}"
    if task["map_index"] >= 0:
        folder /= f"map_index={task['map_index']}"
    path = folder / f"attempt={task['try_number']}.log"
    return path if path.exists() else None


def _progress(state: Mapping[str, Any], tasks: list[dict[str, Any]]) -> str:
    if state["state"] not in UNFINISHED:
        return f"{state['state']} after {_seconds(state):.1f} s"
    counts = Counter(task["state"] or "waiting" for task in tasks)
    done = sum(counts[name] for name in ("success", "skipped", *FAILED))
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    retry = f", {counts['up_for_retry']} waiting for a retry" if counts["up_for_retry"] else ""
    return f"{state['state']}, {done} of {len(tasks)} tasks done{failed}{retry}"


def _seconds(state: Mapping[str, Any]) -> float:
    if not state["start_date"] or not state["end_date"]:
        return 0.0
    begin, end = (datetime.fromisoformat(state[key]) for key in ("start_date", "end_date"))
    return (end - begin).total_seconds()

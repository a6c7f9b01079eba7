"""Run DAGs: trigger them, follow them to the end, and read the logs of failed tasks."""

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
"""Seconds without a change after which the unfinished runs are printed."""

AIRFLOWS_GROUPS = ("::group::Pre Execute", "::group::Post Execute")
"""Log groups that Airflow adds to every task."""
AIRFLOWS_NOISE = (
    "DAG bundles loaded",
    "Filling up the DagBag",
    "Worker startup parse complete",
    "Pushing xcom",
    "Task instance is in running state",
    "Current task name",
    "Previous state of the Task instance",
)
"""Lines that Airflow logs for every task."""
DECISION = "Retry policy decision"
AIRFLOWS_CODE = "/site-packages/airflow/"
ITEM = "  - "
"""Prefix of the lines of an error that list the failed items. Each of these was logged before."""


@dataclass(frozen=True)
class Run:
    """A DAG run that we triggered."""

    dag_id: str
    run_id: str


@dataclass(frozen=True)
class RunResult:
    """A finished DAG run."""

    run: Run
    state: str
    seconds: float
    tasks: list[dict[str, Any]]
    """Task instances, see `Api.tasks`."""

    @property
    def succeeded(self) -> bool:
        """True if the state is success."""
        return self.state == "success"


def fail_interrupted_runs(api: Api, dag_ids: Iterable[str]) -> int:
    """Mark the runs that an earlier Airflow left unfinished as failed; return their number."""
    count, known = 0, api.dags()
    for dag_id in dag_ids:
        if dag_id not in known:
            continue
        for run in api.runs(dag_id, UNFINISHED):
            api.fail_run(dag_id, run["dag_run_id"], "Interrupted when the local run stopped.")
            count += 1
    return count


def trigger(api: Api, dag_ids: Iterable[str], conf: Mapping[str, Any] | None = None) -> list[Run]:
    """Trigger a run of each DAG."""
    return [Run(dag_id, api.trigger(dag_id, conf)) for dag_id in dag_ids]


def follow(
    api: Api,
    runs: Iterable[Run],
    screen: Screen,
    *,
    task_logs: Path,
    check: Callable[[], None],
    each_round: Callable[[], None] | None = None,
    limit_seconds: float | None = None,
) -> list[RunResult]:
    """Follow the runs to their end and print their progress; return them in the order in which they ended.

    `check` and `each_round` are called in every iteration; `check` raises if Airflow is gone.

    Raises:
        LocalError: a run has not ended within `limit_seconds`.
    """
    open_runs = list(runs)
    results: list[RunResult] = []
    shown: dict[Run, str] = {}
    retries: set[tuple[Run, str, int]] = set()
    begin = changed = time.monotonic()
    while open_runs:
        check()
        if each_round:
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
                    screen.say(f"  {run.dag_id:<30} {name} failed; {retry_reason(log)}: {log or 'no log'}")
            if state["state"] not in UNFINISHED:
                results.append(RunResult(run, state["state"], _seconds(state), tasks))
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
    if each_round:
        each_round()
    return results


def failed_logs(result: RunResult, task_logs: Path) -> Iterator[tuple[str, Path | None]]:
    """Yield the names and logs of a run's failed tasks; the log is None if the task never started."""
    for task in result.tasks:
        if task["state"] == "failed":
            yield label(task["task_id"], task["map_index"]), _log_of(result.run, task, task_logs)


def tail(path: Path, count: int = 30) -> str:
    """Return the end of a task log in readable form."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [line for entry in text.splitlines() for line in readable(entry)]
    return "\n".join(f"    {line}" for line in lines[-count:])


def readable(text: str) -> list[str]:
    """Convert a line of a task log from JSON to readable lines; none if it is noise that Airflow logs for every task.

    Group titles are kept without their prefix; a traceback is reduced to its last frames outside Airflow.
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
        is_ours = hasattr(errors, str(error.get("exc_type")))  # our own errors need no traceback
        frames = [frame for frame in error.get("frames") or [] if AIRFLOWS_CODE not in str(frame["filename"])]
        frames = [] if is_ours else frames
        lines += [f"  {frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in frames[-6:]]
        message = f"{error.get('exc_type')}: {error.get('exc_value')}".splitlines()
        shown = [line for line in message if not line.startswith(ITEM)]
        shown[-1] = shown[-1].rstrip(":") if len(shown) < len(message) else shown[-1]
        lines += shown
    return lines


def retry_reason(log: Path | None) -> str:
    """Return why and when a failed task is retried, as its log says."""
    entries = log.read_text(encoding="utf-8", errors="replace").splitlines() if log else []
    for text in reversed(entries):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = json.loads(text)
            if entry["event"] == DECISION:
                return str(entry["reason"])
    return "it will be retried"


def contains_error(log: Path, reported: Iterable[str]) -> bool:
    """Return whether a task log contains one of these error messages."""
    messages = [message for message in reported if message]
    for text in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = json.loads(text)
            texts = [str(entry["event"]), *(str(error["exc_value"]) for error in entry.get("error_detail") or [])]
            if any(message in text for message in messages for text in texts):
                return True
    return False


class LogFollower:
    """Prints new lines of a run's task logs."""

    def __init__(self, run: Run, task_logs: Path, screen: Screen) -> None:
        self._folder = _folder(run, task_logs)
        self._screen = screen
        self._read: dict[Path, int] = {}

    def __call__(self) -> None:
        """Print the lines that were added since the last call."""
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
    """Return the name of a task instance."""
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

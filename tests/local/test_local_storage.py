"""The folder of the local run: private, and its errors in one sentence."""

import errno
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import psycopg
import pytest

from local import __main__ as command_line
from local import airflow, commands, context, storage
from local.checkout import Checkout, LocalError

ROOT = Path(__file__).parents[2]


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink()
    }


def test_what_an_earlier_version_made_is_taken_from_others(tmp_path, local):
    state = tmp_path / ".local"
    (state / "logs").mkdir(parents=True)
    (state / "logs" / "a.log").write_text("")
    (state / "program").write_text("")
    (state / "link").symlink_to(tmp_path)
    for path, mode in (("logs", 0o775), ("logs/a.log", 0o664), ("program", 0o755), (".", 0o755)):
        (state / path).chmod(mode)
    outside = stat.S_IMODE(tmp_path.stat().st_mode)
    context.claim(local, "stop")  # as every command does first
    (state / "lock").unlink()
    assert modes(state) == {".": 0o700, "logs": 0o700, "logs/a.log": 0o600, "program": 0o700}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == outside


def test_the_log_of_a_task_is_its_owners_only(tmp_path):
    env = airflow.environment(Checkout(tmp_path), os.environ, metadata_url="", port=1, slots=9, schedules=False)
    code = "from airflow.sdk.log import init_log_file; init_log_file('dag_id=d/run_id=r/task_id=t/attempt=1.log')"
    env = {**env, "PYTHONPATH": str(ROOT), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://"}
    subprocess.run([sys.executable, "-c", f"import os; os.umask(0o077); {code}"], env=env, check=True, cwd=tmp_path)
    # Airflow sets these modes on some files whatever the umask is.
    assert env["AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS"] == "0o700"
    assert env["AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS"] == "0o600"
    logs = Checkout(tmp_path).task_logs
    found = modes(logs / "dag_id=d")
    assert len(found) == 4
    assert not any(mode & 0o077 for mode in found.values())


def test_the_local_run_makes_files_for_its_user_only(tmp_path, monkeypatch):
    def make(local):
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "file").write_text("")
        return 0

    monkeypatch.setattr(commands, "stop", make)
    before = os.umask(0o022)
    try:
        assert command_line.main(["stop"]) == 0
    finally:
        os.umask(before)
    assert modes(tmp_path / "made") == {".": 0o700, "file": 0o600}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), r"^Error: /.*\.local: the disk is full\. Free some space"),
        (OSError(errno.EROFS, "Read-only", "/a/lock"), "^Error: /a/lock is on a read-only file system: clone"),
        (PermissionError(errno.EACCES, "denied", b"/a/b"), r"^Error: /a/b: permission denied\. Give your user access"),
        (
            FileExistsError(errno.EEXIST, "File exists", "/a/.local"),
            r"^Error: /a/\.local is a file, but must be a folder",
        ),
        (OSError(errno.EIO, "Input/output error", "/a/b"), "^Error: /a/b: Input/output error"),
        (psycopg.OperationalError("connection failed: no\nmore"), "^Error: PostgreSQL: connection failed: no$"),
        (psycopg.errors.DiskFull("could not extend file"), "^Error: the disk is full: .* MB are free at /"),
        (httpx.ReadTimeout("timed out"), "^Error: no valid response: timed out"),
    ],
)
def test_an_error_of_the_machine_is_one_sentence(monkeypatch, capsys, error, message):
    def fail(local):
        raise error

    monkeypatch.setattr(commands, "stop", fail)
    assert command_line.main(["stop"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert re.search(message, printed)


def test_a_defect_keeps_its_traceback(monkeypatch):
    def fail(local):
        raise ZeroDivisionError

    monkeypatch.setattr(commands, "stop", fail)
    with pytest.raises(ZeroDivisionError):
        command_line.main(["stop"])


def test_a_file_where_the_folder_should_be_is_named(tmp_path):
    for name in ("local", "include"):
        (tmp_path / name).symlink_to(ROOT / name)
    state = tmp_path / ".local"
    state.write_text("")
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    code = (
        "import sys; from pathlib import Path; from local import __main__ as m\nfrom local.checkout import Checkout\n"
    )
    code += "m.Checkout = lambda root: Checkout(Path(sys.argv[1])); sys.exit(m.main(['stop']))"
    (tmp_path / "airflow_settings.yaml").write_text("airflow: {}\n")
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 1, done.stderr
    assert f"Error: {state} is a file, but must be a folder: move it away" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_full_disk_is_reported_before_anything_starts(tmp_path, monkeypatch):
    storage.check_room(tmp_path)
    monkeypatch.setattr(storage, "FULL_BYTES", 10**18)
    with pytest.raises(LocalError, match=r"^the disk is full: \d+ MB are free at /"):
        storage.check_room(tmp_path)


def test_logs_older_than_a_week_are_removed(tmp_path):
    tasks, dags = tmp_path / "tasks", tmp_path / "dags"
    old, cleared, new = (tasks / "dag_id=d" / f"run_id={name}" / "task_id=t" for name in ("old", "cleared", "new"))
    for folder in (old, cleared, new, dags / "2026-01-01", dags / "2026-01-09"):
        folder.mkdir(parents=True)
    (cleared / "attempt=1.log").write_text("")
    (cleared / "attempt=2.log").write_text("")
    day, now = 86_400, 100 * 86_400
    for path, days in (
        (old, 8),
        (old.parent, 8),
        (cleared / "attempt=1.log", 8),
        (cleared / "attempt=2.log", 1),
        (cleared, 8),
        (cleared.parent, 8),
        (new, 1),
        (new.parent, 1),
        (dags / "2026-01-01", 8),
        (dags / "2026-01-09", 0),
    ):
        os.utime(path, (now - days * day, now - days * day))
    assert storage.remove_old_logs(tasks, dags, now) == 2
    assert not old.exists()
    assert cleared.exists()
    assert new.exists()
    assert [path.name for path in dags.iterdir()] == ["2026-01-09"]

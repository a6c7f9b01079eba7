"""psql with what it needs to connect, and in a terminal of its own."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local import psql
from local.__main__ import arguments

ROOT = Path(__file__).parents[2]


def test_psql_is_the_newest_that_comes_with_the_embedded_server():
    version = subprocess.run([psql.program(), "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith("psql (PostgreSQL) 18.")
    assert ".venv" in str(psql.program()) or "site-packages" in str(psql.program())


def test_no_password_is_on_the_command_line():
    conninfo = "host=db.example port=5433 user=me password='s e c' dbname=sync sslmode=require keepalives_idle=30"
    options, env = psql.connection_options(conninfo, {"PATH": "/bin", "PGOPTIONS": "-c x=1"}, is_ours=False)
    assert options == ["--dbname=keepalives_idle=30"]
    assert env == {
        "PATH": "/bin", "PGOPTIONS": "-c x=1", "PGHOST": "db.example", "PGPORT": "5433", "PGUSER": "me",
        "PGPASSWORD": "s e c", "PGDATABASE": "sync", "PGSSLMODE": "require",
    }  # fmt: skip
    options, env = psql.connection_options("host=db sslpassword=hidden", {}, is_ours=False)  # psql asks for it
    assert "hidden" not in str(options) + str(env)


def test_the_users_own_postgres_settings_do_not_lead_to_another_server():
    theirs = {"PGHOSTADDR": "10.0.0.1", "PGSERVICE": "prod", "PGPASSWORD": "x", "LANG": "C"}
    _, env = psql.connection_options("host='/a b/c' port=5432 user=postgres dbname=sync", theirs, is_ours=True)
    assert env == {"LANG": "C", "PGHOST": "/a b/c", "PGPORT": "5432", "PGUSER": "postgres", "PGDATABASE": "sync"}


def test_the_statement_and_psqls_own_options_are_handed_over(monkeypatch):
    monkeypatch.setenv("SQL", "SELECT '$1'")
    options = arguments(["psql", "--csv", "-f", "x.sql"])
    assert (options.sql, options.words) == ("SELECT '$1'", ["--csv", "-f", "x.sql"])
    with pytest.raises(SystemExit):
        arguments(["status", "--csv"])


def test_a_dollar_sign_reaches_the_command_as_it_was_typed(tmp_path):
    makefile = (ROOT / "Makefile").read_text() + '\nshow:\n\t@printf "%s %s" "$$SQL" "$$CONF"\n'
    (tmp_path / "Makefile").write_text(makefile)
    found = subprocess.run(
        ["make", "-s", "show", "SQL=SELECT '$1', $$a$$", 'CONF={"x": "$y"}'],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout == 'SELECT \'$1\', $$a$$ {"x": "$y"}'


@pytest.mark.parametrize(("code", "status"), [("exit 3", 3), ("kill -TERM $$", 143)])
def test_the_exit_status_is_the_programs(code, status):
    assert psql.run_in_foreground(["sh", "-c", code], os.environ) == status


def test_ctrl_c_in_a_terminal_reaches_the_program_only():
    child, terminal = pty.fork()
    if child == 0:
        # As `make` and the shell see it: they would end with the first Ctrl-C.
        inner = "trap 'echo interrupted' INT; echo ready; while :; do read line; [ \"$line\" = end ] && exit 7; done"
        code = (
            "import os, sys; from local import psql;"
            f"sys.exit(psql.run_in_foreground(['sh', '-c', {inner!r}], os.environ))"
        )
        os.execve(sys.executable, [sys.executable, "-c", code], dict(os.environ) | {"PYTHONPATH": str(ROOT)})
    shown = _until(terminal, b"ready")
    for _ in range(2):
        os.write(terminal, b"\x03")
        shown += _until(terminal, b"interrupted")
    os.write(terminal, b"\x1a")  # Ctrl-Z: nothing could resume it
    os.write(terminal, b"end\n")
    shown += _until(terminal, None)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7, shown


def _until(terminal, text):
    """What the terminal shows until it contains `text`, or until its program has ended."""
    shown, deadline = b"", time.monotonic() + 20
    while time.monotonic() < deadline and (text is None or text not in shown):
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                return shown
    assert text is None or text in shown, shown
    return shown

"""`python -m local <command>`: the commands of the local run. The Makefile wraps them: see `make help`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from local import storage
from local.checkout import Checkout, LocalError
from local.console import Screen
from local.signals import Interrupted, Signals


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line. The Makefile passes its variables in the environment, which needs no quoting."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("run", help="run every DAG once, show what it did, stop everything")
    up = commands.add_parser("up", help="run Airflow with its web UI and the DAGs on their schedules, until Ctrl-C")
    up.add_argument("--port", default=os.environ.get("PORT") or "8080")
    for name, help_ in (("sync", "run one DAG once"), ("replay", "rerun an inbound DAG's unresolved rejected records")):
        sync = commands.add_parser(name, help=help_)
        sync.add_argument("dag", nargs="?", default=os.environ.get("DAG", ""))
        sync.add_argument("--conf", default=os.environ.get("CONF", ""), help="parameters of the run: a JSON object")
    commands.add_parser("migrate", help="migrate the database of AIRFLOW_CONN_SYNC_DB")
    advance = commands.add_parser("advance", help="change a share of the sandbox's data and a few orders")
    advance.add_argument("--percent", type=float, default=os.environ.get("PERCENT") or "1")
    commands.add_parser("rebuild", help="rebuild the demo index while `up` runs, as an external indexer does")
    for name, help_ in (
        ("status", "show the last sync of each venue, search index and target"),
        ("problems", "show what fails or needs your action; exit status 1 if there is anything"),
    ):
        look = commands.add_parser(name, help=help_)
        look.add_argument("dag", nargs="?", default=os.environ.get("DAG", ""))
        look.add_argument("--format", default=os.environ.get("FORMAT") or "text", help="text or json")
    psql = commands.add_parser("psql", help="open psql on the database, or run one statement; other options go to psql")
    psql.add_argument("--sql", default=os.environ.get("SQL", ""))
    cli = commands.add_parser("airflow", help="run Airflow's command line while `up` runs")
    cli.add_argument("words", nargs=argparse.REMAINDER)
    commands.add_parser("stop", help="stop what a killed command has left running")
    options, words = parser.parse_known_args(given)
    if words and options.command != "psql":
        parser.error(f"unrecognized arguments: {' '.join(words)}")
    if options.command == "psql":
        options.words = words
    return options


def main(given: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    options = arguments(given)
    signals = Signals()
    signals.install()
    # Output for scripts goes to standard output alone; messages go to standard error then.
    screen = Screen(stderr=options.command == "psql" or getattr(options, "format", "") == "json")
    checkout = Checkout(Path(__file__).resolve().parent.parent)
    os.umask(0o077)  # only the user may read the files of the local run
    try:
        from local import commands, context, problems, psql, status

        os.environ.update(context.user_environment(checkout.root))
        local = context.Local(checkout, screen, signals, dict(os.environ))
        with local.cleanup:
            chosen = {
                "run": lambda: commands.run(local),
                "up": lambda: commands.up(local, _port(options.port)),
                "sync": lambda: commands.sync(local, options.dag, options.conf),
                "replay": lambda: commands.replay(local, options.dag, options.conf),
                "migrate": lambda: commands.migrate(local),
                "advance": lambda: commands.advance(local, options.percent),
                "rebuild": lambda: commands.rebuild(local),
                "status": lambda: status.status(local, options.dag, options.format),
                "problems": lambda: problems.problems(local, options.dag, options.format),
                "psql": lambda: psql.psql(local, options.sql, options.words),
                "airflow": lambda: commands.airflow_cli(local, options.words),
                "stop": lambda: commands.stop(local),
            }
            return chosen[options.command]()
    except LocalError as error:
        screen.say(f"Error: {error}")
        if storage.is_full(checkout.state) and "disk is full" not in str(error):
            screen.say(f"Possible cause: {storage.full(checkout.state)}")
        return error.status
    except Interrupted as interrupted:
        return interrupted.status
    except Exception as error:
        message = storage.explain(error, checkout.state)
        if message is None:
            raise
        screen.say(f"Error: {message}")
        return 1


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise LocalError(f"PORT={text} is not a port: specify a number from 1 to 65535", 2)
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

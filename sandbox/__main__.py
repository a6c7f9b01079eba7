"""`python -m sandbox`: serve the stand-ins for the external services until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Sequence
from dataclasses import fields

from sandbox.world import Settings, World


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(text)
    return text.lower() in ("true", "1")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line. The default of an option is the environment variable `SANDBOX_<NAME>`, if set."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--host", default=os.environ.get("SANDBOX_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=os.environ.get("SANDBOX_PORT", "8765"), help="0: any free port")
    for each in fields(Settings):
        default = os.environ.get(f"SANDBOX_{each.name.upper()}", str(each.default))
        kind = _boolean if isinstance(each.default, bool) else type(each.default)
        option = f"--{each.name.replace('_', '-')}"
        parser.add_argument(option, type=kind, default=default, help=f"{each.metadata['help']} ({each.default!r})")
    return parser.parse_args(given)


def main() -> None:
    """Serve until a signal ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the process without a traceback, even during its start
    options = arguments()
    try:
        world = World(Settings(**{each.name: getattr(options, each.name) for each in fields(Settings)}))
    except ValueError as error:
        raise SystemExit(f"sandbox: {error}") from error
    from sandbox.testing import listen, server  # imported late, so that `--help` is fast

    try:
        listener, url = listen(options.host, options.port)
    except OSError as error:
        raise SystemExit(f"sandbox: cannot listen on {options.host}:{options.port}: {error.strerror}") from error
    print(f"sandbox ready at {url}", flush=True)
    server(world).run(sockets=[listener])


if __name__ == "__main__":
    main()

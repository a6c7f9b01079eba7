"""What `make venv` does with PYTHON."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def make(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").write_text("# nothing\n")

    # The variables of `make test` are not for this one.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "PYTHON"}

    def run(*arguments):
        return subprocess.run(["make", *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return run


def test_the_environment_is_rebuilt_for_another_interpreter_only(make, tmp_path):
    first = make("venv", f"PYTHON={sys.executable}")
    assert (first.returncode, "Building .venv with Python 3." in first.stdout) == (0, True), first.stderr
    again = make("venv", f"PYTHON={sys.executable}")
    assert (again.returncode, again.stdout) == (0, "")
    assert make("venv").stdout == "", "without PYTHON the environment stays as it is"
    other = tmp_path / "another python"
    other.write_text('#!/bin/sh\ncase "$2" in *print*) echo 3.14;; *) exit 0;; esac\n')
    other.chmod(0o755)
    assert "Building .venv" in make("venv", f"PYTHON={other}").stdout


@pytest.mark.parametrize("wanted", ["python3.99", "/nowhere/python", "false"])
def test_an_interpreter_that_cannot_be_used_is_refused(make, tmp_path, wanted):
    refused = make("venv", f"PYTHON={wanted}")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"PYTHON={wanted} is not Python 3.11 to 3.14: install one, or set PYTHON")
    assert not (tmp_path / ".venv").exists()

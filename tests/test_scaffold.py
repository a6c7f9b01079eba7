"""A provider that the scaffold wrote runs, passes the contract suite, and is in the documentation."""

import os
import shutil
import subprocess
import sys
from difflib import ndiff
from pathlib import Path

import pytest

from scaffold import __main__ as scaffold

ROOT = Path(__file__).parents[1]
FOLDERS = ("dags", "include", "local", "sandbox", "scaffold", "tests", "plugins", "bench", "soak", "docs")
FILES = ("airflow_local_settings.py", "airflow_settings.yaml", "pyproject.toml", "requirements.lock", "README.md")


@pytest.fixture
def project(tmp_path):
    """A copy of the project, to write into."""
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


@pytest.fixture
def run(project):
    def run(*words):
        env = os.environ | {"PYTHONPATH": str(project), "AIRFLOW_HOME": str(project / ".local" / "tests" / "airflow")}
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=project, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.mark.timeout(900)  # it runs a good part of the suite in processes of its own
def test_a_new_provider_runs(project, run, capsys):
    settings = (project / "airflow_settings.yaml").read_text()
    assert scaffold.main(["acme", "--subject", "concerts"], project) == 0
    output = capsys.readouterr().out
    places = [line for line in output.splitlines() if "FILL" in line]
    counts = {file: sum(file in line for line in places) for file in ("include/", "dags/", "sandbox/", "tests/")}
    assert counts == {"include/": 5, "dags/": 1, "sandbox/": 1, "tests/": 1}
    difference = list(ndiff(settings.splitlines(), (project / "airflow_settings.yaml").read_text().splitlines()))
    assert [line for line in difference if line.startswith("-")] == []
    assert "+     - conn_id: acme_api" in difference
    assert "+     - pool_name: acme" in difference
    run("ruff", "check", ".")
    run("ruff", "format", "--check", ".")
    run("mypy", "include/providers/acme.py")
    run("local.docs", "--check", "dag-table", "dags", "parameters", "connections", "pools")
    assert "| [`acme`](docs/reference/dags.md#acme) |" in (project / "README.md").read_text()
    assert "\n## acme\n" in (project / "docs" / "reference" / "dags.md").read_text()
    pytest_ = ("pytest", "-p", "no:cacheprovider")
    contract = run(*pytest_, "tests/contract", "-k", "Acme")
    assert "skipped" not in contract
    assert int(contract.rpartition(" passed")[0].split()[-1]) > 20
    run(*pytest_, "tests/providers/test_acme.py", "tests/dags", "-k", "acme or test_every_file")
    sandbox = ("tests/sandbox/test_sandbox_demo.py", "tests/sandbox/test_sandbox_suppliers.py")
    run(*pytest_, *sandbox, "tests/local/test_local_settings.py")
    run(*pytest_, "tests/operators/test_venue_links_dag.py", "-k", "shows_the_links")


@pytest.mark.parametrize("name", ["", "class", "Acme", "1acme", "acme-events", "acme__x", "a b", "../acme", "x" * 60])
def test_a_name_that_is_no_module_is_refused(name, capsys):
    assert scaffold.main([name], ROOT) == 2
    assert "NAME=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"), [("titelive_stocks", "include/providers/titelive_stocks.py"), ("fnac", "service of this name")]
)
def test_a_name_that_is_taken_is_refused(name, message, capsys):
    assert scaffold.main([name], ROOT) == 2
    assert message in capsys.readouterr().err

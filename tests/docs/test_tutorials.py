"""The code of the tutorials runs."""

import importlib
import json
import sys
import threading
from http.server import ThreadingHTTPServer
from types import ModuleType
from urllib.request import urlopen

import pytest
import yaml

from include.connectors.http import HttpConnector
from include.outbound.worker import drain
from scaffold import __main__ as scaffold
from tests.docs.pages import ROOT, blocks, file_block, text_of
from tests.outbound.conftest import Shop
from tests.search.conftest import look, served, set_page, site, usual_page  # noqa: F401 - fixtures
from tests.test_scaffold import project, run  # noqa: F401 - fixtures

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Airflow's own, when a DAG is read
    pytest.mark.timeout(900),  # some run a test suite, and the machine may be busy
]

PATCH, TARGET, PROVIDER = (f"docs/tutorials/write-a-{kind}.md" for kind in ("patch", "target", "provider"))


@pytest.fixture
def module(monkeypatch):
    """A function that makes a module of a page's code, as if its file existed."""

    def module(page, file):
        name = file.removesuffix(".py").replace("/", ".")
        made = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, made)
        exec(compile(file_block(page, file), file, "exec"), vars(made))
        return made

    return module


@pytest.mark.parametrize("page", [PATCH, TARGET, PROVIDER])
def test_every_python_block_compiles(page):
    found = [block for block in blocks(text_of(page)) if block.language == "python"]
    for block in found:
        compile(block.text, page, "exec")
    assert found


def test_the_patch_gives_each_record_its_band(module, site, look):  # noqa: F811
    from include.patches.base import load_patch

    module(PATCH, "include/patches/price_band.py")
    site.rebuild()
    look(site, patches=[load_patch("include.patches.price_band.PRICE_BAND")])
    bands = {(record["price"] < 20_000, record["priceBand"]) for record in site.records().values()}
    assert bands == {(True, "under 20,000"), (False, "20,000 and more")}
    assert look(site, patches=[load_patch("include.patches.price_band.PRICE_BAND")], force=True).report.changed == 0


@pytest.mark.parametrize(
    ("page", "word", "count", "at_least"),
    [(PATCH, "price_band", 2, 5), (TARGET, "", 2, 0), (PROVIDER, "billets", 3, 21)],
)
def test_the_files_pass_the_checks_and_the_contract_suite(project, run, page, word, count, at_least):  # noqa: F811
    files = [block.file for block in blocks(text_of(page)) if "/" in block.file]
    assert len(files) == count
    if page == PROVIDER:
        assert scaffold.main(["billets", "--subject", "concerts"], project) == 0
        assert all((project / file).exists() for file in files)
    for file in files:
        (project / file).write_text(file_block(page, file), encoding="utf-8")
    run("ruff", "check", *files)
    run("ruff", "format", "--check", *files)
    run("mypy", next(file for file in files if file.startswith("include/")))
    if at_least:
        output = run("pytest", files[-1], "tests/contract", "-k", word, "-p", "no:cacheprovider")
        assert int(output.rpartition(" passed")[0].split()[-1]) >= at_least


@pytest.fixture
def crm(module):
    """The address of the tutorial's CRM."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), module(TARGET, "crm_server.py").Crm)
    server.RequestHandlerClass.log_message = lambda *_: None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_target_sends_what_changed(module, crm, connection):
    from include.targets import load_target

    module(TARGET, "include/targets/crm.py")
    target = load_target("include.targets.crm.Crm")
    shop = Shop(connection)
    orders = shop.orders(3)

    def send():
        for order in orders:
            target.enqueue_order(shop.load(order), "placed", connection=connection)
        with HttpConnector(crm) as connector:
            return drain(target, connection, connector=connector)

    assert send().orders == {"sent": 3}
    with urlopen(f"{crm}/people", timeout=10) as response:
        people = json.load(response)
    assert people["SHOW-SHOW0"] == {"external_id": "SHOW-SHOW0", "mail": "ada@example.org", "state": "paid"}
    assert len(people) == 3
    assert send().orders == {"nothing_to_do": 3}
    shop.change(orders[0], "new@example.org")
    assert send().orders == {"nothing_to_do": 2, "sent": 1}


def test_the_dag_of_the_target_has_the_usual_tasks(module):
    dag = module(TARGET, "dags/outbound_crm.py").dag
    assert dag.dag_id == "outbound_crm"
    assert [task.target for task in dag.tasks if hasattr(task, "target")]
    assert {task.pool for task in dag.tasks} == {"crm"}


def test_the_settings_of_the_target_are_entries_of_the_file():
    found = [yaml.safe_load(block.text)[0] for block in blocks(text_of(TARGET)) if block.language == "yaml"]
    assert [next(iter(entry)) for entry in found] == ["conn_id", "pool_name"]


def test_the_engine_runs_by_the_import_of_the_page():
    (block,) = [block for block in blocks(text_of(PROVIDER)) if "sync_provider" in block.text]
    line = block.text.partition("\n")[0]
    name = line.split()[1]
    assert hasattr(importlib.import_module(name), "sync_provider")
    assert (ROOT / f"{name.replace('.', '/')}.py").exists()

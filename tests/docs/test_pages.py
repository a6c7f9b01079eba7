"""What the pages name exists: links, paths, commands, SQL, errors, settings."""

import inspect
import json
import re
import shlex
from urllib.parse import urlsplit

import pytest
import yaml

from include import errors
from local.docs.sources import read_dags
from sandbox.faults import PARAMETERS
from tests.docs.pages import NAMES, PAGES, ROOT, anchors, blocks, by_hand, commands, links, prose, text_of

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own, when DAGs are read

MADE = re.compile(r".*(outbound_crm|/crm|price_band|billets)\.py")
"""Files that readers of the tutorials make."""
FOLDERS = {path.parent.name for path in ROOT.glob("*/*") if not path.parent.name.startswith(".")} - {"logs"}
PATH = re.compile(rf"(?<![\w./])(?:\.ci|{'|'.join(FOLDERS)})/[\w./*-]*[\w*/]")


PAGE = "docs/reference/connections-and-variables.md"
SETTINGS = yaml.safe_load(text_of("airflow_settings.yaml"))["airflow"]
MAKEFILE = text_of("Makefile")
EXPORTED = set(re.search(r"^export (.+)$", MAKEFILE, re.MULTILINE)[1].split())


@pytest.fixture(scope="module")
def dags():
    return read_dags()


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_pages_and_headings(name):
    page = ROOT / name
    for link in links(page.read_text(encoding="utf-8")):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", link
            continue
        linked = (page.parent / parts.path).resolve() if parts.path else page
        assert linked.is_file(), f"{link}: there is no such page"
        if parts.fragment:
            assert parts.fragment in anchors(linked.read_text(encoding="utf-8")), f"{link}: there is no such heading"


def test_every_page_is_linked_from_the_index():
    found = set()
    for name in ("docs/README.md", "docs/decisions/README.md"):
        folder = (ROOT / name).parent
        found |= {(folder / link).resolve() for link in links(text_of(name))}
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs") and page.name != "README.md"}
    assert pages <= found


@pytest.mark.parametrize("name", NAMES)
def test_paths_exist(name):
    for path in PATH.findall(by_hand(text_of(name))):
        assert MADE.match(path) or list(ROOT.glob(path.rstrip("/"))), f"{path}: there is no such file"


def makes():
    """The page, target and variables of each `make` command."""
    for name in NAMES:
        for command in commands(text_of(name)):
            make, *words = shlex.split(command, comments=True)
            if make == "make":
                yield name, words[0], dict(word.split("=", 1) for word in words[1:])


@pytest.mark.parametrize(("name", "target", "variables"), list(makes()), ids=lambda value: str(value)[:60])
def test_a_make_command_and_its_variables_exist(name, target, variables, dags):
    assert target in re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE)
    assert variables.keys() <= {*EXPORTED, *re.findall(r"\$\(([A-Z_]+)\)", MAKEFILE)}
    dag_id = variables.get("DAG", "…")
    dag_id = {"billets": "titelive_stocks", "outbound_crm": "outbound_mailing_list"}.get(dag_id, dag_id)  # of tutorials
    assert dag_id == "…" or dag_id in dags
    for parameter, value in json.loads(variables.get("CONF", "{}")).items():
        dags[dag_id].params.get_param(parameter).resolve(value)


def test_sql_runs(connection):
    statements = [block.text for name in NAMES for block in blocks(text_of(name)) if block.language == "sql"]
    statements += [variables["SQL"] for _, _, variables in makes() if "SQL" in variables]
    statements += re.findall(r"`(SELECT [^`]+)`", "".join(prose(text_of(name)) for name in NAMES))
    assert len(statements) > 10
    for statement in statements:
        for part in filter(str.strip, statement.split(";")):
            # The row that the pages release a field of is not there.
            connection.execute(part.replace("SELECT", "EXPLAIN SELECT", 1) if "release_fields(" in part else part)


@pytest.mark.parametrize("name", NAMES)
def test_lines_are_wrapped(name):
    lines = prose(by_hand(text_of(name))).splitlines()
    assert [
        line
        for line in lines
        if len(line) > 120 and not line.lstrip().startswith(("|", "- [", "`make bench`")) and "](" not in line
    ] == []


def test_the_readme_fits_on_a_screen():
    assert len(text_of("README.md").splitlines()) <= 80


def test_how_to_guides_begin_with_when_to_use_them():
    for page in (ROOT / "docs" / "how-to").glob("*.md"):
        assert page.read_text(encoding="utf-8").split("\n\n")[1].startswith("Use this when "), page.name


def first_column(page, heading):
    """The names in the first column of the tables below a heading."""
    part = re.split(r"^#+ ", text_of(page).partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return {name for cell in re.findall(r"^\| (.+?) \|", part, re.MULTILINE) for name in re.findall(r"`([^`]+)`", cell)}


def test_reference_tables_are_complete():
    from include.operators.connections import OWN_EXTRAS

    known = {name for name, found in inspect.getmembers(errors, inspect.isclass) if found.__module__ == errors.__name__}
    assert first_column("docs/reference/errors.md", "What to do") == known - {"ProviderSyncError"}
    assert first_column(PAGE, "Extra of an http connection") == set(OWN_EXTRAS)
    assert first_column("docs/reference/sandbox.md", "Faults") >= PARAMETERS.keys()
    assert first_column("docs/reference/commands.md", "Variables of the commands") >= EXPORTED


def test_variables():
    from include.operators.notifiers import SETTING as NOTIFIER
    from include.operators.params import VARIABLES
    from include.operators.storage import VARIABLE as STORAGE

    ours = {STORAGE, NOTIFIER, *(f"algolia_customer_dispo_{name}" for name in VARIABLES)}
    assert {entry["variable_name"] for entry in SETTINGS["variables"]} <= ours
    by_hand_table = by_hand(text_of(PAGE)).partition("## Pools")[0].rpartition("| Without it |")[2]
    assert set(re.findall(r"^\| `([^`]+)` \|", by_hand_table, re.MULTILINE)) == ours


@pytest.mark.parametrize("name", NAMES)
def test_connections_in_prose_exist(name):
    text = prose(by_hand(text_of(name)))
    known = {"smtp_default", "slack_default", "hook", "crm_api", "billets_api"}
    known |= {entry["conn_id"] for entry in SETTINGS["connections"]}
    assert set(re.findall(r"connections? `(\w+)`", text)) <= known
    assert set(re.findall(r"AIRFLOW_CONN_([A-Z_]*)", text)) <= {conn_id.upper() for conn_id in known} | {""}


def test_the_glossary_is_sorted_and_short():
    titles = re.findall(r"^## (.+)$", text_of("docs/glossary.md"), re.MULTILINE)
    assert titles == sorted(titles)
    assert 15 <= len(titles) <= 50


def test_tests_that_the_guarantees_name_have_tests():
    for path in re.findall(r"`(tests/[\w/]+\.py)`", text_of("docs/explanation/guarantees.md")):
        assert re.search(r"^(def test_|class \w*Test)", text_of(path), re.MULTILINE), path

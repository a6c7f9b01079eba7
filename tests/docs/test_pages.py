"""Links, paths, commands and words of the documentation."""

import json
import re
import shlex
from urllib.parse import urlsplit

import pytest

from local.docs.sources import read_dags
from tests.docs.pages import NAMES, PAGES, ROOT, anchors, blocks, by_hand, commands, links, prose, text_of

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own, when DAGs are read

MADE = re.compile(r".*(outbound_crm|/crm|price_band|billets)\.py")
"""Files that readers of the tutorials make."""
FOLDERS = sorted(
    path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".") and path.name != "logs"
)
PATH = re.compile(rf"(?<![\w./])(?:\.ci|{'|'.join(FOLDERS)})/[\w./*-]*[\w*/]")
WORDS = (
    "told",
    "held",
    "anew",
    "so many",
    ", say",
    "taken for",
    "whoever",
    "wholly",
    "beside",
    "by turns",
    "made to hold",
    "episode",
    "marker",
    "claimer",
    "thumb_step",
)


@pytest.fixture(scope="module")
def dags():
    return read_dags()


@pytest.fixture(scope="module")
def targets():
    return set(re.findall(r"^([a-z][a-z-]*):", text_of("Makefile"), re.MULTILINE))


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


@pytest.mark.parametrize("name", NAMES)
def test_make_commands_exist(name, targets):
    text = text_of(name)
    found = {words[0] for words in re.findall(r"`make ([a-z-]+)(.*?)`", text)}
    found |= {command.split()[1] for command in commands(text) if command.startswith("make ")}
    assert found <= targets


def makes():
    for name in NAMES:
        for command in commands(text_of(name)):
            words = shlex.split(command, comments=True)
            if words[0] == "make":
                yield name, command, dict(word.split("=", 1) for word in words[2:])


@pytest.mark.parametrize(("name", "command", "variables"), list(makes()), ids=lambda value: str(value)[:60])
def test_a_command_has_variables_that_exist(name, command, variables, dags, targets):
    known = {
        "DAG",
        "CONF",
        "PORT",
        "PERCENT",
        "NAME",
        "SUBJECT",
        "FORMAT",
        "SQL",
        "PG",
        "PG_BIN",
        "ARGS",
        "WORKERS",
        "PYTHON",
    }
    assert variables.keys() <= known
    dag_id = variables.get("DAG")
    if dag_id in ("billets", "outbound_crm"):  # of the tutorials
        dag_id = {"billets": "titelive_stocks", "outbound_crm": "outbound_mailing_list"}[dag_id]
    if dag_id is not None:
        assert dag_id in dags
    if "CONF" in variables:
        for parameter, value in json.loads(variables["CONF"]).items():
            assert parameter in dags[dag_id].params
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


@pytest.mark.parametrize("name", [name for name in NAMES if name != "docs/reference/tables-and-views.md"])
def test_words(name):
    text = re.sub(r"~~.*?~~|`[^`]*`", "", by_hand(text_of(name))).lower()
    assert [word for word in WORDS if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)] == []


@pytest.mark.parametrize("name", NAMES)
def test_lines_are_wrapped(name):
    lines = prose(by_hand(text_of(name))).splitlines()
    assert [
        line
        for line in lines
        if len(line) > 120 and not line.lstrip().startswith(("|", "- [", "`make bench`")) and "](" not in line
    ] == []


def test_the_readme_fits_on_a_screen():
    assert len(text_of("README.md").splitlines()) <= 90


def test_how_to_guides_begin_with_when_to_use_them():
    for page in (ROOT / "docs" / "how-to").glob("*.md"):
        assert page.read_text(encoding="utf-8").split("\n\n")[1].startswith("Use this when "), page.name

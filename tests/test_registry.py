"""From dotted paths to providers, targets and patches, and to nothing else."""

import json  # noqa: F401  # so that json.dumps can be found without importing anything
import sys
from typing import ClassVar

import pytest

from include.errors import ConfigurationError
from include.patches.base import load_patch
from include.providers import PROVIDERS, load_provider, provider_classes
from include.providers.base import LocalProvider
from include.registry import Kind, load
from include.targets import load_target

FNAC = "include.providers.fnac_stocks.FnacStocks"
GOOD = {
    load_provider: FNAC,
    load_target: "include.targets.mailing_list.MailingList",
    load_patch: "include.patches.customer_dispo.CUSTOMER_DISPO",
}


class Mine(LocalProvider):
    """A provider of this test module, which is imported already."""

    name: ClassVar[str] = "Mine"
    can_create: ClassVar[bool] = False

    def __next__(self):
        raise StopIteration

    def fill_object_attributes(self, obj):
        pass


class Nameless(Mine):
    can_create: ClassVar[bool] = False


del Mine.name


class Named(Mine):
    name: ClassVar[str] = "Named"


by_kind = pytest.mark.parametrize("load_one", GOOD, ids=lambda one: one.__name__)


@by_kind
def test_what_the_project_has_is_found(load_one):
    assert load_one(GOOD[load_one]) is not None


@by_kind
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "a dotted path is needed"),
        ("FnacStocks", "a dotted path is needed"),
        (".fnac_stocks.FnacStocks", "a dotted path is needed"),
        ("..providers.fnac_stocks.FnacStocks", "a dotted path is needed"),
        ("include.providers.", "a dotted path is needed"),
        ("include/providers/fnac_stocks.FnacStocks", "a dotted path is needed"),
        ("include.providers.fnac_stocks:FnacStocks", "a dotted path is needed"),
        ("include.providers.fnac_stocks.FnacStocks\n", "a dotted path is needed"),
        (None, "a dotted path is needed"),
        ("json.dumps", "it is not a"),
        ("json.JSONDecoder", "it is not a"),
        ("json.decoder", "it is not a"),
        ("os.system", "it is not a"),
        ("include.errors.FatalError", "it is not a"),
        ("nowhere.at.All", "only modules of include"),
    ],
)
def test_anything_else_is_refused_with_what_there_is(load_one, path, reason):
    with pytest.raises(ConfigurationError, match=reason) as refused:
        load_one(path)
    assert f"The project has: {'' if load_one is not load_provider else 'include.providers.'}" in str(refused.value)
    assert GOOD[load_one] in str(refused.value)


@by_kind
@pytest.mark.parametrize("path", ["antigravity.webbrowser", "this.s", "lib2to3.main.main", "tests.side_effect.Boom"])
def test_no_module_outside_of_its_packages_is_imported(load_one, path, monkeypatch, tmp_path):
    (tmp_path / "side_effect.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    with pytest.raises(ConfigurationError, match="only modules of include"):
        load_one(path)
    with pytest.raises(ConfigurationError, match="only modules of include"):
        load_one("side_effect.Boom")
    assert not {"antigravity", "this", "lib2to3.main", "side_effect"} & (set(sys.modules) - before)


def test_a_lookup_does_not_trigger_lazy_imports_of_a_module(monkeypatch):
    class Lazy(type(sys)):
        def __getattr__(self, name):
            raise AssertionError("asked for it")

    monkeypatch.setitem(sys.modules, "lazy_module", Lazy("lazy_module"))
    with pytest.raises(ConfigurationError, match="lazy_module has no Provider"):
        load_provider("lazy_module.Provider")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("include.providers.base.LocalProvider", "it is abstract: it lacks __next__, fill_object_attributes"),
        ("include.providers.stock_api.StockApiProvider", "it is a base class: it has no name"),
        (f"{__name__}.Nameless", "it is a base class: it has no name"),
        ("include.providers.fnac_stocks", "it is not a LocalProvider"),
        ("include.providers.fnac_stocks.Nope", "include.providers.fnac_stocks has no Nope"),
        ("include.providers.nope.Nope", "there is no module include.providers.nope"),
        ("include.providers.nope.deeper.Nope", "there is no module include.providers.nope"),
        (GOOD[load_target], "it is not a LocalProvider|only modules of include.providers"),
    ],
)
def test_a_base_class_or_a_wrong_name_is_no_provider(path, reason):
    with pytest.raises(ConfigurationError, match=reason) as refused:
        load_provider(path)
    assert FNAC in str(refused.value)


def test_a_module_that_is_imported_already_may_hold_one():
    assert load_provider(f"{__name__}.Named") is Named


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """A package of providers in which modules can be written."""
    folder = tmp_path / "suppliers"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    kind = Kind("provider", packages=("suppliers",), reason_against=PROVIDERS.reason_against)

    def write(name, text):
        (folder / f"{name}.py").write_text(text)
        return kind

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "suppliers"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def broken(:", r"raises SyntaxError: .*acme\.py, line 1"),
        ("import not_installed_here", "raises ModuleNotFoundError: No module named 'not_installed_here'"),
        ("from json import nothing_like_it", "raises ImportError: cannot import name 'nothing_like_it' from 'json'"),
        ("import suppliers.nowhere", r"raises ModuleNotFoundError: No module named 'suppliers\.nowhere'"),
        ("1 / 0", "raises ZeroDivisionError: division by zero"),
    ],
)
def test_a_module_that_cannot_be_imported_shows_its_own_error(broken, text, says):
    with pytest.raises(
        ConfigurationError, match=rf"'suppliers\.acme\.Acme' cannot be loaded, its module {says}"
    ) as raised:
        load("suppliers.acme.Acme", broken("acme", text))
    assert raised.value.__cause__ is not None
    assert "There is no provider" not in str(raised.value)


def test_a_broken_module_does_not_hide_what_else_there_is(broken):
    broken("bad", "1 / 0")
    kind = broken("good", f"from {__name__} import Named\n\n\nclass Good(Named):\n    pass\n")
    with pytest.raises(ConfigurationError) as refused:
        load("suppliers.good.Goof", kind)
    assert "The project has: suppliers.good.Good. Not importable: suppliers.bad (ZeroDivisionError" in str(
        refused.value
    )


def test_every_provider_of_the_project_is_listed_once():
    names = [provider_class.__name__ for provider_class in provider_classes()]
    assert {"AllocineStocks", "FnacStocks", "LibrairesStocks", "PraxielStocks", "TiteLiveStocks"} <= set(names)
    assert len(names) == len(set(names))

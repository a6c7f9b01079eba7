"""From a dotted path to a provider, target or patch of the project, and to nothing else.

A path comes from a DAG file or from the ledger, so from a row of the database. Importing a module runs its code: only
modules of a few packages are imported, whatever the path says. A module that is imported already (one of tests, for
example) is looked into as well, since that runs nothing.
"""

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Generic, TypeVar, cast

from include.errors import ConfigurationError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What can be loaded: its name in texts, the packages whose modules may be imported, and the check.

    `reason_against` returns "" for an object of this kind, else what it is instead (`not a Patch`).
    """

    noun: str
    packages: tuple[str, ...]
    reason_against: Callable[[object], str]


def load(path: str, kind: Kind[T]) -> T:
    """Return the object at a dotted path such as `include.providers.titelive_stocks.TiteLiveStocks`.

    Raises:
        ConfigurationError: there is none, it is not of this kind, or its module cannot be imported; the message lists
            what there is.
    """
    if not isinstance(path, str) or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", path):
        raise _nothing_at(path, kind, "a dotted path is needed, such as package.module.Name")
    module_name, _, name = path.rpartition(".")
    module = sys.modules.get(module_name)
    if module is None:
        module = _import(path, module_name, kind)
    # Not getattr: a module may have one of its own that imports others.
    if name not in vars(module):
        raise _nothing_at(path, kind, f"{module_name} has no {name}")
    found = vars(module)[name]
    if reason := kind.reason_against(found):
        raise _nothing_at(path, kind, f"it is {reason}")
    return cast(T, found)


def _import(path: str, module_name: str, kind: Kind[T]) -> ModuleType:
    if not any(f"{module_name}.".startswith(f"{package}.") for package in kind.packages):
        raise _nothing_at(path, kind, f"only modules of {' and '.join(kind.packages)} are imported")
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise _nothing_at(path, kind, f"there is no module {error.name}") from None
        failure: Exception = error
    except Exception as error:  # whatever the code of a module raises
        failure = error
    raise ConfigurationError(
        f"The {kind.noun} {path!r} cannot be loaded, its module raises {type(failure).__name__}: {failure}"
    ) from failure


def _nothing_at(path: str, kind: Kind[T], reason: str) -> ConfigurationError:
    known: list[str] = []
    broken: list[str] = []
    for module_name in _module_names(kind):
        try:
            module = import_module(module_name)
        except Exception as error:  # the listing shall not fail because of another module
            broken.append(f"{module_name} ({type(error).__name__}: {error})")
        else:
            known += [f"{module_name}.{name}" for name in members(module, kind)]
    listed = f"The project has: {', '.join(known) or 'none'}"
    if broken:
        listed += f". Not importable: {', '.join(broken)}"
    return ConfigurationError(f"There is no {kind.noun} {path!r}: {reason}. {listed}")


def import_all(kind: Kind[T]) -> list[ModuleType]:
    """Import the modules that may hold objects of a kind."""
    return [import_module(name) for name in _module_names(kind)]


def members(module: ModuleType, kind: Kind[T]) -> dict[str, T]:
    """Return the objects of a kind that a module defines, by name; those that it only imports are left out."""
    return {
        name: cast(T, found)
        for name, found in vars(module).items()
        if getattr(found, "__module__", None) in (module.__name__, type(found).__module__)
        and not kind.reason_against(found)
    }


def _module_names(kind: Kind[T]) -> Iterator[str]:
    for package in kind.packages:
        for found in pkgutil.iter_modules(import_module(package).__path__):
            yield f"{package}.{found.name}"

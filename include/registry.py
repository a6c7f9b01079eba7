"""Load a provider, target or patch by its dotted path, and nothing else.

A path comes from a DAG file or from the database (the ledger). Importing a module runs its code, so only modules of
the packages of a `Kind` are imported. A module that is already imported, such as a test, may be in any package.
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
    """A kind of object that can be loaded: its noun in messages, the packages that may be imported, and a check.

    `reason_against` returns "" for an object of this kind, else why it is none (`not a Patch`).
    """

    noun: str
    packages: tuple[str, ...]
    reason_against: Callable[[object], str]


def load(path: str, kind: Kind[T]) -> T:
    """Return the object at a dotted path such as `include.providers.titelive_stocks.TiteLiveStocks`.

    Raises:
        ConfigurationError: nothing is at this path, it is of another kind, or its module cannot be imported. The
            message lists what is available.
    """
    if not isinstance(path, str) or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", path):
        raise _nothing_at(path, kind, "a dotted path is needed, such as package.module.Name")
    module_name, _, name = path.rpartition(".")
    module = sys.modules.get(module_name)
    if module is None:
        module = _import(path, module_name, kind)
    # Not getattr: a module-level __getattr__ may import other modules.
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
    except Exception as error:  # a module may raise anything when it is imported
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
        except Exception as error:  # one broken module must not hide the others
            broken.append(f"{module_name} ({type(error).__name__}: {error})")
        else:
            known += [f"{module_name}.{name}" for name in members(module, kind)]
    listed = f"The project has: {', '.join(known) or 'none'}"
    if broken:
        listed += f". Not importable: {', '.join(broken)}"
    return ConfigurationError(f"There is no {kind.noun} {path!r}: {reason}. {listed}")


def import_all(kind: Kind[T]) -> list[ModuleType]:
    """Import all modules in the packages of a kind."""
    return [import_module(name) for name in _module_names(kind)]


def members(module: ModuleType, kind: Kind[T]) -> dict[str, T]:
    """Return the objects of a kind that a module defines, by name, without those that it only imports."""
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

"""Whom to talk to: one module per provider, and the contract they fill."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING

from include.errors import ConfigurationError

if TYPE_CHECKING:
    from include.providers.base import LocalProvider


def provider_classes() -> list[type[LocalProvider]]:
    """Every provider of the project: the classes with a `name` in the modules of this package."""
    from include.providers.base import LocalProvider

    found = []
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, LocalProvider) and member.__module__ == module.__name__ and "name" in vars(member):
                found.append(member)
    return found


def load_provider(path: str) -> type[LocalProvider]:
    """The provider class at a dotted path such as `include.providers.titelive_stocks.TiteLiveStocks`.

    Raises:
        ConfigurationError: there is no such class.
    """
    module_name, _, class_name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(f"{c.__module__}.{c.__name__}" for c in provider_classes())
        raise ConfigurationError(f"There is no provider {path!r} ({error}); the project has: {known}") from None
    provider_class: type[LocalProvider] = found
    return provider_class


def named_provider(name: str) -> type[LocalProvider]:
    """The provider class whose row in `provider` has this name; of several, that of the newest structure.

    Raises:
        ConfigurationError: there is none, or it is not linked to venues; the message lists those that are.
    """
    linked = [provider_class for provider_class in provider_classes() if provider_class.needs_venue]
    found = [provider_class for provider_class in linked if provider_class.row_name() == name.strip()]
    if not found:
        known = ", ".join(sorted({provider_class.row_name() for provider_class in linked}))
        raise ConfigurationError(f"There is no provider {name!r} that venues are linked to; there are: {known}")
    return max(found, key=lambda provider_class: provider_class.scheme_version)

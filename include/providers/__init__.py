"""The inbound providers of the project: one module each, and the contract that they implement."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from include.errors import ConfigurationError
from include.registry import Kind, import_all, load, members

if TYPE_CHECKING:
    from include.providers.base import LocalProvider


def _not_a_provider(found: object) -> str:
    from include.providers.base import LocalProvider

    if not (isinstance(found, type) and issubclass(found, LocalProvider)):
        return "not a LocalProvider"
    if inspect.isabstract(found):
        return f"abstract: it lacks {', '.join(sorted(found.__abstractmethods__))}"
    if lacking := [name for name in ("name", "can_create") if not hasattr(found, name)]:
        return f"a base class: it has no {' and no '.join(lacking)}"
    return ""


PROVIDERS: Kind[type[LocalProvider]] = Kind("provider", packages=("include.providers",), reason_against=_not_a_provider)


def provider_classes() -> list[type[LocalProvider]]:
    """Return the provider classes of the project: all that the modules of this package define."""
    return [found for module in import_all(PROVIDERS) for found in members(module, PROVIDERS).values()]


def load_provider(path: str) -> type[LocalProvider]:
    """Return the provider class at a dotted path such as `include.providers.titelive_stocks.TiteLiveStocks`.

    Raises:
        ConfigurationError: there is no such class, or it is not a provider; the message lists the providers.
    """
    return load(path, PROVIDERS)


def named_provider(name: str) -> type[LocalProvider]:
    """Return the provider class whose row in `provider` has this name; of several, the one with the newest scheme.

    Raises:
        ConfigurationError: there is none, or it has no venues; the message lists the providers with venues.
    """
    linked = [provider_class for provider_class in provider_classes() if provider_class.needs_venue]
    found = [provider_class for provider_class in linked if provider_class.row_name() == name.strip()]
    if not found:
        known = ", ".join(sorted({provider_class.row_name() for provider_class in linked}))
        raise ConfigurationError(f"There is no provider {name!r} that venues are linked to; there are: {known}")
    return max(found, key=lambda provider_class: provider_class.scheme_version)

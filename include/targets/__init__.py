"""The outbound targets of the project: one module each, and the contract that they implement."""

from __future__ import annotations

from include.registry import Kind, import_all, load, members
from include.targets.base import OutboundSyncProvider


def _not_a_target(found: object) -> str:
    if not (isinstance(found, type) and issubclass(found, OutboundSyncProvider)):
        return "not an OutboundSyncProvider"
    return "" if getattr(found, "identifier", "") else "a target without an identifier"


TARGETS: Kind[type[OutboundSyncProvider]] = Kind("target", packages=("include.targets",), reason_against=_not_a_target)


def load_target(path: str) -> type[OutboundSyncProvider]:
    """Return the target class at a dotted path such as `include.targets.mailing_list.MailingList`.

    Raises:
        ConfigurationError: there is no such class, or it is not a target; the message lists the project's.
    """
    return load(path, TARGETS)


def target_classes() -> list[type[OutboundSyncProvider]]:
    """Return all targets of the project: the classes with an identifier in the modules of this package.

    Raises whatever a module of the package raises that cannot be imported.
    """
    return [found for module in import_all(TARGETS) for found in members(module, TARGETS).values()]

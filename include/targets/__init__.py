"""The targets of the project: one module each."""

from __future__ import annotations

from include.registry import Kind, load
from include.targets.base import OutboundSyncProvider


def _not_a_target(found: object) -> str:
    if not (isinstance(found, type) and issubclass(found, OutboundSyncProvider)):
        return "not an OutboundSyncProvider"
    return "" if getattr(found, "identifier", "") else "a target without an identifier"


TARGETS: Kind[type[OutboundSyncProvider]] = Kind("target", packages=("include.targets",), reason_against=_not_a_target)


def load_target(path: str) -> type[OutboundSyncProvider]:
    """The target class of a dotted path like `include.targets.mailing_list.MailingList`.

    Raises:
        ConfigurationError: there is none, or it is not a target.
    """
    return load(path, TARGETS)

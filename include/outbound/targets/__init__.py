"""The targets of the project: one module each."""

from __future__ import annotations

from importlib import import_module

from include.errors import ConfigurationError
from include.outbound.base import OutboundSyncProvider


def load_target(path: str) -> type[OutboundSyncProvider]:
    """The target class of a dotted path like `include.outbound.targets.mailing_list.MailingList`.

    Raises:
        ConfigurationError: there is none, or it is no target.
    """
    module, _, name = path.rpartition(".")
    try:
        target = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"There is no target {path!r}: {error}") from error
    if not (isinstance(target, type) and issubclass(target, OutboundSyncProvider)):
        raise ConfigurationError(f"{path} is no OutboundSyncProvider")
    if not getattr(target, "identifier", ""):
        raise ConfigurationError(f"{path} has no identifier")
    return target

"""Gives manual overrides back to the providers, as a run's parameter `release_fields` requests."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import psycopg

from include.providers.base import LocalProvider
from include.store.overrides import release

log = logging.getLogger(__name__)


def release_overrides(
    connection: psycopg.Connection[object],
    entries: Sequence[str],
    provider_class: type[LocalProvider],
    *,
    full_refresh: bool,
    dry_run: bool,
) -> None:
    """Release fields in the caller's transaction (see `release`); log which, and when the provider will write them."""
    released = release(connection, entries, dry_run=dry_run)
    for entry, fields in released.items():
        verb = "Dry run, would release" if dry_run else "Released"
        log.info("%s %s: %s", verb, entry, ", ".join(fields) or "it has no manual overrides")
    if not any(released.values()):
        return
    next_step = "The next listing that has these records writes the provider's values"
    if provider_class.window != "none" and not full_refresh:
        next_step += (
            f". {provider_class.name} lists what changed since the last run: to write them now, trigger this DAG again "
            "with full_refresh, and with venue_links to read only the venues concerned"
        )
    if any(entry.startswith("offer.") and fields for entry, fields in released.items()):
        next_step += ". Offers of the stock APIs keep their values: syncs only create them"
    log.info("%s", next_step)

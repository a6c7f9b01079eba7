"""The settings of the sandbox."""

from __future__ import annotations

from dataclasses import fields

from local.docs.sources import Sources, table


def render(sources: Sources) -> str:  # noqa: ARG001 - as all generators
    """Return a line per setting."""
    from sandbox.world import Settings

    return table(
        ("Setting", "Default", "Meaning"),
        [(f"`{each.name}`", f"`{each.default!r}`", each.metadata["help"]) for each in fields(Settings)],
    )

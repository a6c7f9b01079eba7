"""The commands of the Makefile, in the groups of `make help`."""

from __future__ import annotations

import re

from local.docs.sources import Sources, table

_LINE = re.compile(r"^##@ (?P<group>.+)$|^(?P<name>[a-z-]+):.*?## (?P<text>.+)$", re.MULTILINE)


def render(sources: Sources) -> str:
    """Return a table per group."""
    groups: dict[str, list[tuple[str, str]]] = {"": []}
    for found in _LINE.finditer((sources.root / "Makefile").read_text(encoding="utf-8")):
        if found["group"]:
            groups[found["group"]] = []
        else:
            list(groups.values())[-1].append((f"`make {found['name']}`", found["text"]))
    return "\n\n".join(
        f"## {group}\n\n{table(('Command', 'What it does'), rows)}" for group, rows in groups.items() if rows
    )

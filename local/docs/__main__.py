"""Fill the generated blocks of the documentation; `--check` only compares, and exits with 1 and the difference.

A page is written by hand, except for what stands between two comments::

    <!-- generated: class include/providers/base.py LocalProvider -->
    …
    <!-- end generated -->

The first word of the comment names a generator in `BLOCKS`; the other words are its arguments.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from local.docs import classes, dags, reference
from local.docs.sources import ROOT, Sources

BLOCKS: dict[str, Callable[..., str]] = {
    "dag-table": dags.table_of_dags,
    "dags": dags.chapters,
    "parameters": dags.forms,
    "connections": reference.connections,
    "variables": reference.variables,
    "pools": reference.pools,
    "class": classes.render,
    "function": classes.render,
    "error-tree": classes.error_tree,
    "source-fields": reference.source_fields,
    "relations": reference.relations,
    "commands": reference.commands,
    "sandbox-settings": reference.sandbox_settings,
}
BLOCK = re.compile(r"^<!-- generated: (.+?) -->\n(.*?)^<!-- end generated -->$", re.MULTILINE | re.DOTALL)


def main(given: Sequence[str] | None = None, root: Path = ROOT, conninfo: str | None = None) -> int:
    """Write the blocks, or compare them; returns the exit status. `conninfo` is that of a migrated database."""
    parser = argparse.ArgumentParser(prog="python -m local.docs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only compare; exit with 1 if a page differs")
    parser.add_argument("only", nargs="*", metavar="generator", help=f"only these: {', '.join(BLOCKS)}")
    options = parser.parse_args(given)

    def block(found: re.Match[str]) -> str:
        name, *arguments = found[1].split()
        if name not in BLOCKS:
            raise SystemExit(f"There is no generator {name!r}; there are {', '.join(BLOCKS)}")
        if options.only and name not in options.only:
            return found[0]
        return f"<!-- generated: {found[1]} -->\n\n{BLOCKS[name](sources, *arguments)}\n\n<!-- end generated -->"

    stale = 0
    with Sources(root, conninfo) as sources:
        for page in (*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))):
            current = page.read_text(encoding="utf-8")
            generated = BLOCK.sub(block, current)
            if generated == current:
                continue
            stale += 1
            name = page.relative_to(root).as_posix()
            if options.check:
                both = current.splitlines(), generated.splitlines()
                print("\n".join(difflib.unified_diff(*both, name, "the code", lineterm="")))
            else:
                page.write_text(generated, encoding="utf-8")
                print(f"Updated {name}")
    if options.check and stale:
        print(f"{stale} pages differ from the code: run `make docs`")
    return int(options.check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())

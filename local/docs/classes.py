"""Classes and functions with their docstrings. They are read from the source, so nothing has to be imported."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from textwrap import dedent

from local.docs.sources import Sources

Definition = ast.ClassDef | ast.FunctionDef
_LITERAL = re.compile(r"(?:(\S)|^)::\n\n((?: {4}.*\n|\n+(?= {4}))+)", re.MULTILINE)
_SECTION = re.compile(r"^(Args|Raises|Returns|Yields):\n((?: {4}.*\n)+)", re.MULTILINE)
_PARAMS = re.compile(r"^:param (?:.+\n)+", re.MULTILINE)


def render(sources: Sources, path: str, name: str) -> str:
    """Return a class (docstring, attributes, public methods) or a function, at the top level of a file or folder."""
    place = sources.root / path
    for file in sorted(place.glob("*.py")) if place.is_dir() else [place]:
        source = file.read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, Definition) and node.name == name:
                parts = [f"### {name}", *_parts(node, source.splitlines())]
                return "\n\n".join(part for part in parts if part)
    raise SystemExit(f"{path} has no {name}")


def error_tree(sources: Sources) -> str:
    """Return the tree of errors, as the docstring of their module draws it."""
    doc = ast.get_docstring(ast.parse((sources.root / "include/errors.py").read_text(encoding="utf-8"))) or ""
    tree = next(part for part in doc.split("\n\n") if "── " in part)
    return f"```text\n{inspect.cleandoc(tree)}\n```"


def _parts(node: Definition, lines: list[str]) -> Iterator[str]:
    yield _header(node, lines)
    yield _text(node)
    if isinstance(node, ast.ClassDef):
        if attributes := list(_attributes(node)):
            yield "**Attributes**"
            yield "\n".join(attributes)
        for each in node.body:
            if isinstance(each, ast.FunctionDef) and (not each.name.startswith("_") or each.name == "__next__"):
                yield f"#### `{each.name}`"
                yield from _parts(each, lines)


def _header(node: Definition, lines: list[str]) -> str:
    """Return the source from the decorators to the colon, without comments."""
    start = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    header = "\n".join(lines[start - 1 : node.body[0].lineno - 1])
    return _code(re.sub(r"(:|  # .*)+$", "", header, flags=re.MULTILINE))


def _attributes(node: ast.ClassDef) -> Iterator[str]:
    """Yield a list entry per attribute. A text literal below an attribute is its docstring."""
    for each, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(each, ast.AnnAssign) and not ast.unparse(each.target).startswith("_"):
            shown = re.sub(r"ClassVar\[(.+)\]", r"\1", ast.unparse(each))
            is_doc = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            doc = f": {' '.join(str(after.value.value).split())}" if is_doc else ""  # type: ignore[union-attr]
            yield f"- `{shown}`{doc}"


def _text(node: Definition) -> str:
    """Return a docstring as Markdown: literal blocks become code, arguments and errors become lists."""
    text = f"{ast.get_docstring(node) or ''}\n"
    text = _LITERAL.sub(lambda found: (f"{found[1]}:\n\n" if found[1] else "") + _code(found[2]) + "\n", text)
    text = _SECTION.sub(lambda found: f"**{found[1]}**\n\n{_entries(found[2])}\n", text)
    return _PARAMS.sub(lambda found: f"**Args**\n\n{_entries(found[0].replace(':param ', ''))}\n", text).strip()


def _code(text: str) -> str:
    return f"```python\n{dedent(text).strip()}\n```"


def _entries(text: str) -> str:
    """Return `name: what it is`, each of which may continue in indented lines, as a list; other lines stay."""
    entries = re.split(r"\n(?! )", dedent(text).strip())
    return "\n".join(re.sub(r"^(\w+): ", r"- `\1`: ", " ".join(entry.split())) for entry in entries)

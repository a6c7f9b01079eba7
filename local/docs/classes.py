"""Classes and their docstrings. They are read from the source, so nothing has to be imported."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import TypeVar

from local.docs.sources import Sources

Definition = ast.FunctionDef | ast.AsyncFunctionDef
D = TypeVar("D", bound=ast.AST)


def render(sources: Sources, path: str, name: str) -> str:
    """Return a class: its docstring, its attributes with theirs, and its public methods."""
    found = _find(sources, path, name, ast.ClassDef)
    bases = ", ".join(ast.unparse(base) for base in found.bases)
    parts = [f"### {name}", f"```python\nclass {name}{f'({bases})' if bases else ''}\n```", _text(found)]
    attributes = list(_attributes(found))
    if attributes:
        parts += ["**Attributes**", "\n".join(attributes)]
    for node in found.body:
        if isinstance(node, Definition) and (not node.name.startswith("_") or node.name == "__next__"):
            parts += [f"#### `{node.name}`", _signature(node), _text(node)]
    return "\n\n".join(part for part in parts if part)


def render_function(sources: Sources, path: str, name: str) -> str:
    """Return a function: its signature and docstring."""
    found = _find(sources, path, name, ast.FunctionDef)
    return f"### {name}\n\n{_signature(found)}\n\n{_text(found)}"


def error_tree(sources: Sources, path: str = "include/errors.py") -> str:
    """Return the tree of errors, as the docstring of their module draws it."""
    doc = ast.get_docstring(ast.parse((sources.root / path).read_text(encoding="utf-8"))) or ""
    tree = next(part for part in doc.split("\n\n") if "── " in part)
    return f"```text\n{inspect.cleandoc(tree)}\n```"


def _find(sources: Sources, path: str, name: str, *kinds: type[D]) -> D:
    """Find a top-level definition in a module, or in the modules of a folder."""
    place = sources.root / path
    for file in sorted(place.glob("*.py")) if place.is_dir() else [place]:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, kinds) and getattr(node, "name", "") == name:
                return node
    raise SystemExit(f"{path} has no {name}")


def _attributes(found: ast.ClassDef) -> Iterator[str]:
    """Yield a list entry per attribute. A text literal below an attribute is its docstring."""
    for node, after in zip(found.body, [*found.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
            shown = ast.unparse(node).replace("ClassVar[", "", 1)
            shown = re.sub(r"\]( = |$)", r"\1", shown, count=1) if "ClassVar[" in ast.unparse(node) else shown
            is_doc = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            doc = inspect.cleandoc(str(after.value.value)) if is_doc else ""  # type: ignore[union-attr]
            yield f"- `{shown}`" + (f": {' '.join(doc.split())}" if doc else "")


def _signature(node: Definition) -> str:
    decorators = "".join(f"@{ast.unparse(each)}\n" for each in node.decorator_list)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    arguments = re.sub(r"(?<=[\w\]'\"])=(?=\S)", " = ", ast.unparse(node.args))
    line = f"def {node.name}({arguments}){returns}"
    if len(line) > 110:
        line = f"def {node.name}(\n    {_split(arguments)}\n){returns}"
    return f"```python\n{decorators}{line}\n```"


def _split(arguments: str) -> str:
    """One argument per line; commas within brackets do not separate arguments."""
    lines, depth = [""], 0
    for character in arguments:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            lines.append("")
        else:
            lines[-1] += character
    return ",\n    ".join(line.strip() for line in lines)


def _text(node: ast.AST) -> str:
    """A docstring as Markdown: literal blocks, and lists of arguments and errors."""
    doc = ast.get_docstring(node) or ""  # type: ignore[arg-type]
    parts = []
    for part in doc.split("\n\n"):
        head, _, rest = part.partition("\n")
        if head in ("Args:", "Raises:", "Returns:", "Yields:"):
            parts.append(f"**{head[:-1]}**\n\n{_entries(textwrap.dedent(rest), is_list=head in ('Args:', 'Raises:'))}")
        elif part.startswith(":param "):
            parts.append("**Args**\n\n" + _entries(re.sub(r"^:param ", "", part, flags=re.MULTILINE), is_list=True))
        elif part.startswith("    ") or (parts and parts[-1].endswith("::")):
            parts.append(f"```python\n{inspect.cleandoc(part)}\n```")
        else:
            parts.append(part)
    text = "\n\n".join(parts)
    return re.sub(r"::$", ":", text.replace("\n```\n\n```python\n", "\n\n"), flags=re.MULTILINE)


def _entries(text: str, *, is_list: bool) -> str:
    """Entries like `name: what it is`, each of which may go on in indented lines."""
    if not is_list:
        return text
    entries = re.split(r"\n(?! )", text)
    return "\n".join(re.sub(r"^(\w+): ", r"- `\1`: ", " ".join(entry.split())) for entry in entries)

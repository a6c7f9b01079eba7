"""Find the provider or the target that a DAG file names, without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def named(file: Path, word: str) -> Iterator[str]:
    """Yield the dotted paths in a DAG file: for the word `provider`, `PROVIDER = "…"` and `provider="…"`."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    except SyntaxError:
        return  # Airflow reports it
    for node in nodes:
        is_named = isinstance(node, ast.keyword) and node.arg == word
        if isinstance(node, ast.Assign):
            is_named = any(isinstance(each, ast.Name) and each.id == word.upper() for each in node.targets)
        if is_named and isinstance(value := getattr(node, "value", None), ast.Constant):
            yield str(value.value)

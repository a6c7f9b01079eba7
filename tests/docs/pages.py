"""The pages of the documentation, and what is in them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

_BLOCK = re.compile(r"^( *)```(\w*)(?: file=(\S+))?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_GENERATED = re.compile(r"^<!-- generated: .+? -->\n.*?^<!-- end generated -->$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced code block; `file` is the file that it is the content of, if its first line names one."""

    language: str
    file: str
    text: str


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text):
    return [Block(found[2], found[3] or "", _dedented(found[4], found[1])) for found in _BLOCK.finditer(text)]


def prose(text):
    """A page without its code blocks."""
    return _BLOCK.sub("", text)


def by_hand(text):
    """A page without its generated blocks."""
    return _GENERATED.sub("", text)


def file_block(name, file):
    """The content that a page gives for a file."""
    found = [block.text for block in blocks(text_of(name)) if block.file == file]
    assert len(found) == 1, f"{name} has {len(found)} blocks of {file}"
    return found[0]


def commands(text):
    """The shell commands of a page, after their prompt."""
    return [
        line.removeprefix("$ ")
        for block in blocks(text)
        if block.language == "console"
        for line in block.text.splitlines()
        if line.startswith("$ ")
    ]


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def links(text):
    """The targets of a page's Markdown links."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def _dedented(text, indent):
    return "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))

"""The pages of the documentation, and what is in them."""

import re
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

_BLOCK = re.compile(r"^( *)```(\w*)(?: file=(\S+))?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_GENERATED = re.compile(r"^<!-- generated: .+? -->\n.*?^<!-- end generated -->$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced code block; `file` is the file that it is the content of, if its first line names one."""

    language: str
    file: str
    text: str


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text):
    return [Block(found[2], found[3] or "", dedent(found[4])) for found in _BLOCK.finditer(text)]


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
    """The shell commands of a page: after a prompt, or `make …` within a sentence."""
    prompts = "".join(block.text for block in blocks(text) if block.language == "console")
    return re.findall(r"^\$ (.+)$", prompts, re.MULTILINE) + re.findall(r"`(make [a-z-]+[^`]*)`", prose(text))


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def links(text):
    """The targets of a page's Markdown links."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))

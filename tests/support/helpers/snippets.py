"""The code in README.md and docs/: what stands in fences and in backticks."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[3]
_SITE = ("index.md", "reference.md")  # directives of Sphinx, no text of their own
PAGES = (
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in _SITE),
)

_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_OUR_PROGRAM = ("fedprune", ".venv/bin/fedprune")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, line, language and text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(language=None) -> list[Block]:
    """Return the fenced blocks of all pages, of one language if it is given."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            line = text[: match.start()].count("\n") + 1
            found.append(Block(page.name, line, match[1], match[2]))
    return [block for block in found if language in (None, block.language)]


def inline() -> list[str]:
    """Return what stands in backticks, each once, line breaks as blanks."""
    found = {}
    for page in PAGES:
        prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
        found |= dict.fromkeys(" ".join(m.split()) for m in _INLINE.findall(prose))
    return list(found)


def commands() -> list[list[str]]:
    """Return the words of every command line of the sh blocks, without comments."""
    lines = [
        line
        for block in blocks("sh")
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def our_commands() -> list[list[str]]:
    """Return the arguments of every call of fedprune."""
    return [words[1:] for words in commands() if words[0] in _OUR_PROGRAM]


def find_command(root: click.Command, words: list[str]):
    """Return the command that words name, and the words that follow."""
    while isinstance(root, click.Group) and words and words[0] in root.commands:
        root, words = root.commands[words[0]], words[1:]
    return root, words

"""Reads the code blocks and links of a Markdown page."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if page.exists()
]

PYTHON = {"python", "py", "python3"}
FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,}) *(?P<info>[^`\n]*)$")
COMMENT = re.compile(r"^\s*<!-- *(?P<words>[a-z ]+?)(?:: *(?P<reason>.*?))? *-->\s*$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `line` is that of its first line of text; `comment` stands right before the fence."""

    line: int
    language: str
    info: str
    text: str
    comment: str
    reason: str

    @property
    def is_python(self) -> bool:
        return self.language in PYTHON

    @property
    def runs(self) -> bool:
        return self.is_python and self.comment != "not run"

    @property
    def is_output(self) -> bool:
        return self.comment == "output"


def blocks_of(markdown: str) -> list[Block]:
    """All fenced blocks in order, those in lists and admonitions too."""
    lines = markdown.splitlines()
    found: list[Block] = []
    comment = reason = ""
    index = 0
    while index < len(lines):
        if opening := FENCE.match(lines[index]):
            closing = re.compile(rf"\s*{re.escape(opening['fence'])}+\s*")
            start = index + 1
            end = next(
                (n for n in range(start, len(lines)) if closing.fullmatch(lines[n])), len(lines)
            )
            text = textwrap.dedent("\n".join(lines[start:end]) + "\n")
            info = opening["info"].strip()
            language = re.split(r"[\s{]", info, maxsplit=1)[0].lower()
            found.append(Block(start + 1, language, info, text, comment, reason))
            comment = reason = ""
            index = end
        elif note := COMMENT.match(lines[index]):
            comment, reason = note["words"], note["reason"] or ""
        elif lines[index].strip():
            comment = reason = ""
        index += 1
    return found


def faults_of(markdown: str) -> list[str]:
    """What a page must not do to keep its examples from running: a line each."""
    faults: list[str] = []
    blocks = blocks_of(markdown)
    for block in blocks:
        where = f"line {block.line}: "
        if block.is_python and re.search(r"no-?run|skip|noexec", block.info):
            faults.append(where + "say why before the block: <!-- not run: reason -->")
        if block.language == "pycon":
            faults.append(
                where
                + "write ```python, with an <!-- output --> block after it: a session is not run"
            )
        if block.comment == "not run" and not block.reason:
            faults.append(where + "<!-- not run: --> needs a reason")
    before_python = sum(block.comment == "not run" and block.is_python for block in blocks)
    if before_python != len(re.findall(r"<!-- *not run\b", prose_of(markdown))):
        faults.append(
            "a comment <!-- not run: reason --> stands before no ```python block, or away from it"
        )
    if sum(block.is_output for block in blocks) != len(
        re.findall(r"<!-- *output *-->", prose_of(markdown))
    ):
        faults.append("a comment <!-- output --> stands before no block, or away from it")
    return faults


def prose_of(markdown: str) -> str:
    """The page without its fenced blocks and code spans."""
    kept: list[str] = []
    fence = ""
    for line in markdown.splitlines():
        if match := FENCE.match(line):
            if not fence:
                fence = match["fence"]
            elif match["fence"].startswith(fence) and not match["info"]:
                fence = ""
        elif not fence:
            kept.append(line)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", "\n".join(kept))


def links_of(markdown: str) -> list[str]:
    """The targets of all links and images, reference definitions too."""
    prose = prose_of(markdown)
    inline = re.findall(r"\]\(\s*<?([^\s)>]+)>?(?:\s+[\"'][^)]*)?\)", prose)
    references = re.findall(r"^\s{0,3}\[[^\]^]+\]:\s*<?(\S+?)>?(?:\s|$)", prose, re.MULTILINE)
    html = re.findall(r"(?:href|src)=[\"']([^\"']+)[\"']", prose)
    return inline + references + html


def anchors_of(markdown: str) -> set[str]:
    """The ids that links into the page may name."""
    found = set(re.findall(r"\bid=[\"']([^\"']+)[\"']", markdown)) | set(
        re.findall(r"\{ *#([\w.-]+)", markdown)
    )
    without_blocks = re.sub(
        r"^([ \t]*)(`{3,}|~{3,}).*?^[ \t]*\2", "", markdown, flags=re.MULTILINE | re.DOTALL
    )
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", without_blocks, re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)|\{[^}]*\}$", r"\1", heading)
        found.add(re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower()))
    return found

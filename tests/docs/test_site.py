"""The site is built as CI builds it: strictly, complete in its reference, and without anything from elsewhere."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGE, modules_of
from tests.docs.pages import PAGES, ROOT, blocks_of

# What is public beside what the pages import. The rest of the packages is private to Headrace.
PUBLIC = re.compile(r"headrace(\.(drivers|testing|integrations|dashboard|wire|container)(\.\w+)*)?")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built into a folder of the test's own."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def listed(site: Path) -> set[str]:
    """The names that the reference explains, as other sites could link to them."""
    inventory = (site / "objects.inv").read_bytes()
    lines = zlib.decompress(inventory.split(b"\n", 4)[4]).decode().splitlines()
    return {line.split(" ", 1)[0] for line in lines}


def imported() -> set[tuple[str, str]]:
    """Module and name of all that the pages import from Headrace."""
    found: set[tuple[str, str]] = set()
    for page in PAGES:
        for block in blocks_of(page.read_text(encoding="utf-8")):
            for node in ast.walk(ast.parse(block.text if block.is_python else "")):
                if isinstance(node, ast.ImportFrom) and node.module:
                    found |= {(node.module, alias.name) for alias in node.names}
    return {(module, name) for module, name in found if module.split(".")[0] == "headrace"}


def exported() -> set[tuple[str, str]]:
    """Module and name of all that public packages export."""
    found: set[tuple[str, str]] = set()
    for name in modules_of(PACKAGE):
        if PUBLIC.fullmatch(name):
            names = getattr(importlib.import_module(name), "__all__", ())
            found |= {(name, each) for each in names}
    return found


@pytest.mark.timeout(150)  # it builds the site
def test_the_reference_has_every_public_name(site: Path) -> None:
    """What public packages export, and what the pages import, is in the reference."""
    known = listed(site)
    missing: list[str] = []
    for module, name in sorted(exported() | imported()):
        value = getattr(importlib.import_module(module), name)
        home = f"{getattr(value, '__module__', module)}.{getattr(value, '__qualname__', name)}"
        if f"{module}.{name}" not in known and home not in known:
            missing.append(f"{module}.{name}")
    assert not missing, "in no page of docs/reference, add `::: module` to one: " + ", ".join(
        missing
    )


def test_the_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and pictures come with the site, so that it can be read offline."""
    found: set[str] = set()
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        tags = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", html)
        found |= {
            tag
            for tag in tags
            if re.search(r"(?:src|href)=[\"']?(?:https?:)?//", tag) and 'rel="canonical"' not in tag
        }
    assert not found


def test_every_page_can_be_searched(site: Path) -> None:
    """The index of the search has all pages."""
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    pages = {str(entry["location"]).partition("#")[0] for entry in index["docs"]}
    built = {str(page.relative_to(site)) for page in site.rglob("*.html")} - {"404.html"}
    missing = {
        page for page in built if page not in pages and page.replace("index.html", "") not in pages
    }
    assert not missing

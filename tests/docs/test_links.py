"""Links from one page of the repository to another lead somewhere."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import PAGES, ROOT, anchors_of, links_of

LINKING = [*PAGES, *(page for page in sorted(ROOT.glob("*.md")) if page not in PAGES)]


def dead_links(page: Path) -> list[str]:
    dead: list[str] = []
    for link in links_of(page.read_text(encoding="utf-8")):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.exists():
            dead.append(f"{link}: there is no {target}")
        elif parts.fragment and target.suffix == ".md":
            anchors = anchors_of(target.read_text(encoding="utf-8"))
            if parts.fragment not in anchors:
                dead.append(
                    f"{link}: {target.name} has no heading for it, only {', '.join(sorted(anchors))}"
                )
    return dead


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file that exists and, after #, a heading in it."""
    faults = dead_links(page)
    assert not faults, f"{page.relative_to(ROOT)}:\n" + "\n".join(faults)


def test_every_decision_is_listed() -> None:
    """docs/decisions/README.md links to each decision."""
    folder = ROOT / "docs" / "decisions"
    listed = set(links_of((folder / "README.md").read_text(encoding="utf-8")))
    missing = {page.name for page in folder.glob("[0-9]*.md")} - listed
    assert not missing


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    """Missing files and headings are found in every form of link; what stands in code is no link."""
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# One\n## Two `words`, three\n", encoding="utf-8")
    page.write_text(
        "[a](other.md) [b](other.md#two-words-three) [c](https://example.org/x) `[d](no.md)`\n"
        "[e](missing.md) [f](other.md#no)\n![g](missing.png)\n[h]: missing.txt\n"
        '<a href="missing.html">\n```text\n[i](no.md)\n```\n[j](#here)\n',
        encoding="utf-8",
    )
    assert [fault.split(":")[0] for fault in dead_links(page)] == [
        *("missing.md", "other.md#no", "missing.png", "#here", "missing.txt", "missing.html"),
    ]

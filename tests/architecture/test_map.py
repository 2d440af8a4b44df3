"""The map of the code in CONTRIBUTING.md shows what there is."""

from __future__ import annotations

import re

from tests.architecture.source import PACKAGE, ROOT

HEADING = "## The map of the code\n"
ROW = re.compile(r"^\| [^|]+ \| ([^|]+) \|$", re.MULTILINE)


def the_map() -> str:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return text.partition(HEADING)[2].partition("\n## ")[0]


def shown() -> set[str]:
    """The modules and packages that the table names."""
    return {name for row in ROW.findall(the_map()) for name in re.findall(r"`([^`]+)`", row)}


def present() -> set[str]:
    """The modules and packages at the top of the package, as the table writes them."""
    found = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    return found | {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}


def test_every_module_stands_on_the_map() -> None:
    """Whoever adds, renames or removes a module says on the map what it is for."""
    missing, gone = sorted(present() - shown()), sorted(shown() - present())
    assert not missing, f"put these into the map of the code in CONTRIBUTING.md: {missing}"
    assert not gone, f"these are not there any more, but on the map of CONTRIBUTING.md: {gone}"


def test_the_readme_leads_to_the_heart() -> None:
    """From the README to the map, from the map to the mediator, and the mediator says that it is the heart."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(CONTRIBUTING.md#the-map-of-the-code)" in readme
    assert the_map().lstrip().startswith("The heart is [`mediator.py`](src/headrace/mediator.py).")
    heart = (PACKAGE / "mediator.py").read_text(encoding="utf-8")
    assert "This is the heart of Headrace." in heart

"""docs/errors.md is the catalogue of all errors: an entry for each, headed `### CODE Name`."""

from __future__ import annotations

import importlib
import inspect
import re

from tests.architecture.source import PACKAGE, ROOT

CATALOGUE = ROOT / "docs" / "errors.md"
CODE = re.compile(r"HR\d{3}")


def errors() -> list[type[BaseException]]:
    """The exceptions that headrace.errors makes."""
    if not list(PACKAGE.glob("errors*")):
        return []
    module = importlib.import_module("headrace.errors")
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, BaseException)
        and value.__module__.startswith(module.__name__)
    ]


def entries(page: str) -> dict[str, str]:
    """Heading -> text of all third-level headings."""
    parts = re.split(r"^### +(.+?) *$", page, flags=re.MULTILINE)
    texts = [re.split(r"^#{1,2} ", text, flags=re.MULTILINE)[0].strip() for text in parts[2::2]]
    return dict(zip([heading.replace("`", "") for heading in parts[1::2]], texts, strict=True))


def test_every_error_has_a_code_of_its_own() -> None:
    """Each exception class sets its own code, HR and three digits, and no two share one."""
    faults: list[str] = []
    owners: dict[str, str] = {}
    for error in errors():
        code = vars(error).get("code")
        if not isinstance(code, str) or not CODE.fullmatch(code):
            faults.append(
                f"{error.__name__} has the code {code!r}: set code = 'HR...' in the class"
            )
        elif code in owners:
            faults.append(f"{error.__name__} has the code {code} of {owners[code]}")
        else:
            owners[code] = error.__name__
    assert not faults, "\n" + "\n".join(faults)


def test_the_catalogue_lists_exactly_the_errors() -> None:
    """Each exception has an entry headed `### CODE Name` in docs/errors.md, and each entry an exception."""
    expected = {f"{vars(error).get('code')} {error.__name__}" for error in errors()}
    present = entries(CATALOGUE.read_text(encoding="utf-8"))
    missing = [f"add an entry '### {heading}'" for heading in sorted(expected - present.keys())]
    stale = [
        f"remove '### {heading}': no such error" for heading in sorted(present.keys() - expected)
    ]
    empty = [f"say in '### {h}' what happened and what to do" for h in present if not present[h]]
    faults = [f"docs/errors.md: {fault}" for fault in missing + stale + empty]
    assert not faults, "\n" + "\n".join(faults)


def test_entries_are_third_level_headings() -> None:
    """An entry ends at the next heading; headings of other levels only group entries."""
    page = "# Errors\n## Wiring\n### `HR001` `One`\n\ntext\n#### More\nmore\n## Other group\nwords\n### HR002 Two\n"
    assert entries(page) == {"HR001 One": "text\n#### More\nmore", "HR002 Two": ""}

"""Tools for tests of apps built on Headrace, and for certifying drivers (`headrace.testing.conformance`).

The pytest plugin is `headrace.testing.plugin`; pytest finds it by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.testing.answers import Answer
    from headrace.testing.harness import Harness

__all__ = ["Answer", "Harness"]


def __getattr__(name: str) -> object:
    # At first use: the plugin below this package is imported by every run of pytest.
    if name == "Harness":
        from headrace.testing.harness import Harness

        return Harness
    if name == "Answer":
        from headrace.testing.answers import Answer

        return Answer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What an integration says when its packages are not there."""

from __future__ import annotations

from headrace.errors import MissingExtra


def missing(integration: str, error: ImportError, extra: str) -> MissingExtra:
    """The error for packages that are not installed.

    Args:
        integration: the module that needs them.
        error: of the import.
        extra: what installs them.
    """
    return MissingExtra(
        f"{integration} needs the package {(error.name or '').partition('.')[0]!r}, which is not installed. Install the extra: "
        f"pip install 'headrace[{extra}]'"
    )

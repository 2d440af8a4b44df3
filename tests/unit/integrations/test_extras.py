"""An integration whose packages are not installed says which extra has them."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("integration", "package", "extra"),
    [
        ("fastapi", "fastapi", "fastapi"),
        ("fastapi", "starlette", "fastapi"),
        ("starlette", "starlette", "starlette"),
        ("settings", "pydantic_settings", "settings"),
    ],
)
def test_a_missing_package_names_the_extra(integration: str, package: str, extra: str) -> None:
    """Section 2: the error names the package and what to install."""
    program = (
        f"import sys; sys.modules[{package!r}] = None; import headrace.integrations.{integration}"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("headrace.errors.MissingExtra: [HR005] headrace.integrations.")
    assert f"needs the package {package!r}" in last
    assert last.endswith(f"pip install 'headrace[{extra}]'")

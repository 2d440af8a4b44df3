"""Print what engines there are: `python -m engines`, or `python -m engines postgresql kafka`."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

import engines


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if not parts.password or parts.password == parts.username:
        return url  # guest:guest is no secret.
    return parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")).geturl()


def main(names: list[str]) -> int:
    """Look for each engine and print a line on it. Returns 1 if one is missing."""
    missing = 0
    for name in names or engines.NAMES:
        try:
            engine = engines.shared(name)
        except engines.EngineMissing as reason:
            missing += 1
            print(f"{name:<11} missing: {reason}")
        else:
            url = _without_password(engine.url)
            print(f"{name:<11} {engine.version:<28} {url:<52} {engine.origin}", flush=True)
    return 1 if missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ValueError as error:
        sys.exit(str(error))

"""`python -m benchmarks`: measure, print, and with --write make docs/benchmarks.md."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from benchmarks.peers.environment import ROOT
from benchmarks.report import page, tables
from benchmarks.results import PARTS, QUICK, Scale, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a look in a minute or two, too short to quote"
    )
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, help="measure these alone"
    )
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md, too")
    given = parser.parse_args()
    if given.write and (given.quick or set(given.only) != set(PARTS)):
        parser.error("--write takes a whole run: leave out --quick and --only")
    # An app without an inbox and a cluster of one server are meant here.
    logging.getLogger("headrace").setLevel(logging.ERROR)
    results = asyncio.run(
        run(
            QUICK if given.quick else Scale(),
            given.only,
            lambda text: print(f"... {text}", file=sys.stderr, flush=True),
        )
    )
    print(tables(results))
    if given.write:
        (ROOT / "docs" / "benchmarks.md").write_text(page(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

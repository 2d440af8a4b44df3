"""Ask for every link of the documentation that leads elsewhere: `python scripts/links.py [WORD]`.

Not part of `make check`: it needs the network, and what it finds may be the fault of others. Links within the repository
are checked by tests/docs/test_links.py. WORD limits it to addresses that contain it. Exits with 1 if some are dead.
"""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_SECONDS = 15
# Examples, not addresses.
MADE_UP = re.compile(r"//(?:localhost|127\.|[\w.-]*example\.(?:org|com)|[\w-]+(?:[:/]|$))")


def links() -> dict[str, list[str]]:
    """Each address with the pages that it stands on."""
    found: dict[str, list[str]] = {}
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = re.sub(
            r"^([ \t]*)(`{3,}).*?^[ \t]*\2", "", page.read_text("utf-8"), flags=re.M | re.S
        )
        for address in re.findall(r"\]\((https?://[^)\s]+)\)", text):
            if not MADE_UP.search(address):
                pages = found.setdefault(address.partition("#")[0], [])
                pages.append(str(page.relative_to(ROOT)))
    return found


def fault_of(address: str) -> str | None:
    """Why it cannot be read, or None."""
    request = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        # Some refuse programs, or answer only so often: the page is there.
        return None if error.code in (401, 403, 429) else f"{error.code} {error.reason}"
    except OSError as error:
        return str(error)


def main() -> int:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    found = {address: pages for address, pages in sorted(links().items()) if word in address}
    with ThreadPoolExecutor(8) as pool:
        faults = dict(zip(found, pool.map(fault_of, found), strict=True))
    dead = {address: fault for address, fault in faults.items() if fault}
    for address, fault in dead.items():
        print(f"{address}: {fault}\n    on {', '.join(sorted(set(found[address])))}")
    if found and len(dead) == len(found):
        print("none could be read: is there a network?")
    print(f"{len(found)} links, {len(dead)} dead")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())

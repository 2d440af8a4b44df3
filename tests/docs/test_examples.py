"""Every ```python block in README.md and docs/ runs: each page in a process and an empty folder of its own.

But those of docs/tutorial, which are one project: test_tutorial.py follows them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, blocks_of, faults_of

RUNNER = Path(__file__).with_name("run_page.py")
LONGEST_SECONDS = 50
ALONE = [page for page in PAGES if page.parent.name != "tutorial"]


def run_page(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "utf8", "-W", "error", str(RUNNER), str(page)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", ALONE, ids=named)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    """All Python blocks of the page run in order, without an error or a warning."""
    if not any(block.runs for block in blocks_of(page.read_text(encoding="utf-8"))):
        return
    done = run_page(page, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_example_is_silently_left_out(page: Path) -> None:
    """A block that is not run says why, in a comment right before it."""
    faults = faults_of(page.read_text(encoding="utf-8"))
    assert not faults, "\n".join(f"{named(page)}: {fault}" for fault in faults)


def test_blocks_share_a_namespace_and_may_await(tmp_path: Path) -> None:
    """Blocks of one page build on each other as one `__main__`, and may use await at the top."""
    page = tmp_path / "page.md"
    page.write_text(
        """
```python
import asyncio, dataclasses

@dataclasses.dataclass
class Point:
    x: "int"
```

- in a list:

    ```python title="later"
    async with asyncio.timeout(5):
        await asyncio.sleep(0)
        print(Point(3), __name__)
    ```

<!-- output -->
```text
Point(x=3) __main__
```

```python
async def main() -> None:
    await asyncio.sleep(0)

if __name__ == "__main__":
    asyncio.run(main())
```

```python
await main()
```

<!-- not run: there is no server -->
```python
raise SystemExit("must not run")
```
""",
        encoding="utf-8",
    )
    done = run_page(page, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not faults_of(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# Page\n```python\n\n1 / 0\n```\n", 'page.md", line 4'),
        ("```python\nawait no_such_name\n```\n", "NameError"),
        (
            "```python\nprint(1)\n```\n<!-- output -->\n```text\n2\n```\n",
            "page.md:6: the output differs",
        ),
        (
            "```python\nimport warnings; warnings.warn('old', DeprecationWarning)\n```\n",
            "DeprecationWarning",
        ),
    ],
)
def test_a_wrong_example_fails(text: str, message: str, tmp_path: Path) -> None:
    """An error, a warning and another output than the page shows fail, with the line in the page."""
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    done = run_page(page, tmp_path)
    assert done.returncode != 0
    assert message in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "```python no-run\nx\n```\n",
        "<!-- not run: -->\n```python\nx\n```\n",
        "<!-- not run: reason -->\nwords between\n```python\nx\n```\n",
        "<!-- not run: reason -->\n```bash\nx\n```\n",
        "```pycon\n>>> x\n```\n",
    ],
)
def test_an_example_left_out_in_silence_is_found(text: str) -> None:
    """Every way to keep a block from running but a comment with a reason right before it is a fault."""
    assert faults_of(text)

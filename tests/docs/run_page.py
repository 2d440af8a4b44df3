"""Runs the Python blocks of one page in order, in this process and one namespace: `run_page.py PAGE`.

The page becomes `__main__`, as if its blocks were pasted into one file; `await` is allowed at the top of a block. A
block after the comment `<!-- output -->` must equal what the Python block before it printed.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import difflib
import inspect
import io
import sys
import types
from pathlib import Path

from pages import Block, blocks_of


def main(page: Path) -> None:
    module = types.ModuleType("__main__")
    module.__file__ = str(page)
    sys.modules["__main__"] = module
    sys.path[0] = ""
    printed = ""
    with asyncio.Runner() as runner:
        for block in blocks_of(page.read_text(encoding="utf-8")):
            if block.runs:
                printed = run(block, page, vars(module), runner)
            elif block.is_output and printed.rstrip() != block.text.rstrip():
                expected, actual = block.text.splitlines(), printed.rstrip().splitlines()
                sys.exit(
                    f"{page}:{block.line}: the output differs\n"
                    + "\n".join(
                        difflib.unified_diff(
                            expected, actual, "the page", "the program", lineterm=""
                        )
                    )
                )


def run(block: Block, page: Path, namespace: dict[str, object], runner: asyncio.Runner) -> str:
    """Run one block and return what it printed. Its line numbers are those of the page."""
    source = "\n" * (block.line - 1) + block.text
    code = compile(
        source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if code.co_flags & inspect.CO_COROUTINE:
            runner.run(types.FunctionType(code, namespace)())
        else:
            exec(code, namespace)
    return printed.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

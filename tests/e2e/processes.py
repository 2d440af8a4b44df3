"""Processes of a test: what they print can be waited for, and none is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path


class Process:
    """A process in the folder of the test; its output can be waited for."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self.output = ""
        self._process = process

    async def until(self, pattern: str) -> re.Match[str]:
        """Read on to where the output has this."""
        while (found := re.search(pattern, self.output)) is None:
            assert await self._read(), f"no {pattern!r} in\n{self.output}"
        return found

    async def line(self) -> str:
        """The next line that it prints."""
        before = len(self.output)
        assert await self._read(), f"it has ended after\n{self.output}"
        return self.output[before:]

    async def ends(self) -> int:
        """Read to the end: all processes that write there have ended. Answers the exit code."""
        while await self._read():
            pass
        return await self._process.wait()

    async def _read(self) -> bool:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(20):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise AssertionError(f"nothing more came after\n{self.output}") from None
        self.output += line.decode()
        return bool(line)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def running(self) -> bool:
        return self._process.returncode is None


@asynccontextmanager
async def starting(folder: Path) -> AsyncGenerator[Callable[..., Awaitable[Process]]]:
    """Starts Python in a folder; keywords are its environment. Ends what still runs."""
    async with AsyncExitStack() as stack:

        async def run(*arguments: str, **environment: str) -> Process:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *arguments),
                cwd=folder,
                env={**os.environ, "COLUMNS": "200", **environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            one = Process(process)

            async def end() -> None:
                if one.running():
                    process.kill()
                await one.ends()

            stack.push_async_callback(end)
            return one

        yield run

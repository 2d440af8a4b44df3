"""A worker in development: its process is started again whenever a file of the program changes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from headrace.backoff import Backoff
from headrace.cli.ending import Code, Fault
from headrace.cli.stopping import Stopping
from headrace.worker import pause

POLL_SECONDS = 0.4
"""How often it looks. Quick enough for somebody who saves a file and looks up; a thousand files cost some milliseconds."""

_A_DAY = 24 * 3600.0
_LEFT_OUT = frozenset({"__pycache__", "node_modules", "site-packages"})

Seen = Mapping[str, tuple[int, int]]
"""Files, each with the time of its last change and its size."""


class Reloading:
    """Runs one process, drains it when a file changes, and starts the next one.

    This process imports nothing of the program, so a fault in it ends only the process that is started anew: what is wrong is
    shown there, and the next change starts another one.

    Args:
        command: what the process runs; it is to drain at the end of its input.
        folders: where `.py` files are watched, with all that is below.
    """

    def __init__(self, command: Sequence[str], folders: Sequence[Path]) -> None:
        self._command = tuple(command)
        self._folders = tuple(folders)
        self._process: asyncio.subprocess.Process | None = None

    def run(self, stopping: Stopping) -> int:
        """Go on until told to stop."""
        return asyncio.run(self._run(stopping))

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _run(self, stopping: Stopping) -> int:
        # The process itself ends in time, by its app's limits, which are not known here.
        stop = stopping.watch(_A_DAY)
        seen = await asyncio.to_thread(snapshot, self._folders)
        names = ", ".join(str(folder) for folder in self._folders)
        _say(f"watching {len(seen)} files below {names}; a change starts the worker again.")
        backoff = Backoff()
        code: int = Code.DONE
        reloaded = False
        while not stop.is_set():
            changes = asyncio.create_task(self._change(seen))
            told = asyncio.create_task(stop.wait())
            code, ended = await self._one(changes, told)
            if stop.is_set():
                changes.cancel()
                break
            if ended and code == Code.USAGE and not reloaded:
                return code
            if ended and code not in (Code.FAULT, Code.USAGE):
                wait = backoff.next()
                _say(
                    f"the worker has ended with exit code {code}; another one starts in {wait:.1f} s."
                )
                changes.cancel()
                told.cancel()
                await pause(stop, wait)
                continue
            if ended:
                _say("waiting for a change.")
                await asyncio.wait({changes, told}, return_when=asyncio.FIRST_COMPLETED)
            backoff.reset()
            told.cancel()
            if changes.done():
                seen, changed = changes.result()
                reloaded = True
                _say(f"{_near(changed)} has changed; starting again.")
            else:
                changes.cancel()
        return code

    async def _one(
        self, changes: asyncio.Task[tuple[Seen, str]], told: asyncio.Task[bool]
    ) -> tuple[int, bool]:
        """Run a process until it ends, a file changes or all is to stop: its exit code, and whether it ended by itself."""
        process = self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE
        )
        ending = asyncio.create_task(process.wait())
        await asyncio.wait({ending, changes, told}, return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            return ending.result(), True
        if process.stdin is not None:
            process.stdin.close()
        # While it imports the program it does not look at its input yet.
        try:
            process.terminate()
        except ProcessLookupError:
            pass
        code = await ending
        return (code if code >= 0 else Code.DONE), False

    async def _change(self, seen: Seen) -> tuple[Seen, str]:
        """Wait until a file is new, gone or changed, and until they change no more: an editor or git writes several."""
        first = ""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            found = await asyncio.to_thread(snapshot, self._folders)
            if found != seen:
                first = first or min(_differing(seen, found))
                seen = found
            elif first:
                return seen, first


def folders_of(given: Sequence[Path] | None) -> tuple[Path, ...]:
    """The folders to watch: those given, or the current one.

    Raises:
        Fault: one does not exist.
    """
    folders = tuple(given or (Path.cwd(),))
    for folder in folders:
        if not folder.is_dir():
            raise Fault(
                f"--reload-dir {folder}: there is no such folder. Name one that has the program's files.",
                Code.USAGE,
            )
    return folders


def snapshot(folders: Sequence[Path]) -> Seen:
    """All `.py` files below the folders, but not those of packages that are installed, and none of hidden folders."""
    found: dict[str, tuple[int, int]] = {}
    for folder in folders:
        found.update(_files(str(folder)))
    return found


def _files(folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
    try:
        with os.scandir(folder) as entries:
            every = list(entries)
    except OSError:
        return  # gone since it was listed
    if any(entry.name == "pyvenv.cfg" for entry in every):
        return  # a virtual environment
    for entry in every:
        try:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and entry.name not in _LEFT_OUT:
                    yield from _files(entry.path)
            elif entry.name.endswith(".py"):
                found = entry.stat()
                yield entry.path, (found.st_mtime_ns, found.st_size)
        except OSError:
            continue


def _differing(one: Seen, other: Seen) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def _near(path: str) -> str:
    return os.path.relpath(path)


def _say(text: str) -> None:
    sys.stderr.write(f"headrace: {text}\n")
    sys.stderr.flush()

"""A terminal of a reader: a shell of its own, into which commands are typed."""

from __future__ import annotations

import os
import queue
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

PATIENCE_SECONDS = 60.0


class CommandFailed(Exception):
    """What was typed failed, or did not print in time what it should."""


class Terminal:
    """A bash in a folder. Close it: what runs in it is killed then.

    Args:
        folder: where it begins.
        environment: of the shell.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self.printed = ""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def run(self, text: str) -> str:
        """Type commands and wait for their end; returns what they printed.

        Raises:
            CommandFailed: one of them failed.
        """
        mark = secrets.token_hex(8)
        self._type(f"set -e\n{text}\nset +e\necho {mark}\n")
        return self._until(mark).partition(mark)[0]

    def begin(self, text: str, until: str) -> str:
        """Type commands that go on running, and wait until they have printed a text.

        Raises:
            CommandFailed: they ended, or did not print it in time.
        """
        self._type(text)
        return self._until(until)

    def interrupt(self) -> None:
        """Press Ctrl-C and leave: what ran has ended when this returns."""
        os.killpg(self._shell.pid, signal.SIGINT)
        self._stdin().close()
        self._shell.wait(PATIENCE_SECONDS)
        self._reading.join(PATIENCE_SECONDS)

    def close(self) -> None:
        """Kill whatever still runs in it."""
        try:
            os.killpg(self._shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._shell.wait()
        self._reading.join(PATIENCE_SECONDS)
        self._stdin().close()
        if self._shell.stdout:
            self._shell.stdout.close()

    def _stdin(self) -> IO[str]:
        assert self._shell.stdin is not None
        return self._shell.stdin

    def _type(self, text: str) -> None:
        while not self._lines.empty():  # what came since belongs to what ran before
            self._lines.get_nowait()
        try:
            self._stdin().write(text + "\n")
            self._stdin().flush()
        except BrokenPipeError as error:
            raise CommandFailed(f"the terminal has ended; it printed:\n{self.printed}") from error

    def _until(self, text: str) -> str:
        seen = ""
        end = time.monotonic() + PATIENCE_SECONDS
        while text not in seen:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise CommandFailed(f"waited in vain for {text!r}; printed was:\n{seen}") from None
            if not line:
                raise CommandFailed(f"it ended without {text!r}; printed was:\n{seen}")
            seen += line
        return seen

    def _read(self) -> None:
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            self.printed += line
            self._lines.put(line)
        self._lines.put("")

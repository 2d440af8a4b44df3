"""A server process that ends with its user."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engines import watch
from engines.missing import EngineMissing

# Below the ports that the system gives to clients: while a server is down, no client gets its port by chance (nor, on
# Linux, connects to itself through it).
_PORTS = range(20_000, 32_000)
_START_SECONDS = 20.0
# Given to somebody in this process, who may not listen there yet.
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now; another one each time."""
    for _ in range(200):
        port = random.SystemRandom().choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise EngineMissing("no free port between 20000 and 32000 was found in 200 tries on 127.0.0.1")


@dataclass(frozen=True, slots=True)
class Command:
    """What to run.

    Args:
        argv: the program and its arguments.
        folder: where it runs.
        log: the file that gets its output, at the end.
        environment: added to this process's environment.
        stop_signal: the signal that asks it to stop cleanly.
        user: the number of the user to run as; None for this process's own.
    """

    argv: Sequence[str | Path]
    folder: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: int = signal.SIGTERM
    user: int | None = None


class Process:
    """One run of a command. It ends when `stop` or `kill` is called, or when this process is gone.

    Raises:
        EngineMissing: the program could not be run.
    """

    def __init__(self, command: Command) -> None:
        self._command = command
        spec = {
            "argv": [str(part) for part in command.argv],
            "folder": str(command.folder),
            "log": str(command.log),
            "environment": {**os.environ, **command.environment},
            "stop_signal": int(command.stop_signal),
            "user": command.user,
        }
        # Isolated and without site packages: it starts in 15 ms. Its own session: an interrupt from the keyboard is
        # for this process, which then ends the server in order.
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", watch.__file__, json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._watcher.stdout is not None
        first = self._watcher.stdout.readline()
        if not first:
            _, errors = self._watcher.communicate()
            last = errors.decode(errors="replace").strip().rpartition("\n")[2]
            raise EngineMissing(f"{command.argv[0]} could not be run: {last}")
        self.pid = int(first)

    @property
    def alive(self) -> bool:
        """Whether it runs (or is paused)."""
        return self._watcher.poll() is None

    def stop(self, seconds: float = _START_SECONDS) -> None:
        """Ask it to stop cleanly, and kill it after `seconds`."""
        if self.alive:
            self.resume()
            self._signal_one(self._command.stop_signal)
            try:
                self._watcher.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close()

    def wait(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        code = self._watcher.wait()
        self._close()
        return code

    def kill(self) -> None:
        """Kill it and its children with SIGKILL, as a crash of the machine would; returns when they are gone."""
        killed = watch.signal_tree(self.pid, signal.SIGKILL) if self.alive else []
        self._watcher.wait()
        while any(watch.tree(pid) for pid in killed):
            time.sleep(0.005)
        self._close()

    def pause(self) -> None:
        """Stop it and its children with SIGSTOP: connections stay open, nothing answers."""
        paused = watch.signal_tree(self.pid, signal.SIGSTOP)
        # On a busy machine a thread may go on for a moment.
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and not all(watch.stopped(pid) for pid in paused):
            time.sleep(0.001)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        watch.signal_tree(self.pid, signal.SIGCONT)

    def _signal_one(self, number: int) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def _close(self) -> None:
        for pipe in (self._watcher.stdin, self._watcher.stdout, self._watcher.stderr):
            if pipe is not None:
                pipe.close()
        self._watcher.wait()

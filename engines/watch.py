"""Runs one server process and ends it when its user has gone, however the user went.

A program of its own: `python watch.py SPEC`, where SPEC is the JSON of what to run. It prints the server's process id, then
waits. Its input is a pipe that only the user holds: when the pipe ends, the user is gone (ended, crashed, killed), and the
server is asked to stop, then killed with all its children. It imports nothing of Headrace, so that it starts quickly.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

_GRACE_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1


def tree(pid: int) -> list[int]:
    """The process and all its descendants, parents first. A process that has gone has none."""
    children: dict[int, list[int]] = {}
    alive: set[int] = set()
    for process, parent, state in _processes():
        if state != "Z":
            alive.add(process)
            children.setdefault(parent, []).append(process)
    found = [pid] if pid in alive else []
    for process in found:
        found += children.get(process, ())
    return found


def signal_tree(pid: int, number: int) -> list[int]:
    """Send a signal to a process and all its descendants: PostgreSQL's and Erlang's children leave the process group."""
    processes = tree(pid)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
    return processes


def stopped(pid: int) -> bool:
    """True if SIGSTOP has reached the process, or it is gone."""
    return next((state in "TtZX" for one, _, state in _processes() if one == pid), True)


def _processes() -> list[tuple[int, int, str]]:
    """(process, parent, state) of every process."""
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,state="], capture_output=True, text=True, check=True
        )
        lines = (line.split() for line in listing.stdout.splitlines())
        return [(int(pid), int(parent), state[0]) for pid, parent, state in lines]
    found: list[tuple[int, int, str]] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                # The name in brackets may hold blanks and brackets itself: what follows the last one counts.
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                found.append((int(folder.name), int(parent), state))
    return found


def _end_with_the_watcher() -> Callable[[], None] | None:
    """What the server runs before its program: it asks the kernel to be killed when the watcher is."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    """Run what the specification says until it ends or the user is gone."""
    spec = json.loads(sys.argv[1])
    with Path(spec["log"]).open("ab") as log:
        server = subprocess.Popen(
            spec["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=spec["folder"],
            env=spec["environment"],
            user=spec["user"],
            group=spec["user"],
            extra_groups=None if spec["user"] is None else [],
            start_new_session=True,
            preexec_fn=_end_with_the_watcher(),
        )
    os.write(1, f"{server.pid}\n".encode())

    def end_with_the_user() -> None:
        while os.read(0, 1024):
            pass
        with contextlib.suppress(ProcessLookupError):
            # A stopped process would not see the other signal.
            signal_tree(server.pid, signal.SIGCONT)
            server.send_signal(spec["stop_signal"])
        try:
            server.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            signal_tree(server.pid, signal.SIGKILL)

    threading.Thread(target=end_with_the_user, daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())

"""Servers that several processes share: started by the first that asks, ended when the last has gone.

A keeper process (it runs `keep`) owns the server. Who uses it holds a shared lock on the file `users` for
as long as it lives; the system lets go of it when a process ends, however it ends. The keeper asks for the same lock
exclusively every second: when it gets it, nobody is left, and it stops the server. No process id is trusted anywhere.

    .engines/NAME/lock     held by who starts, joins or ends the server
    .engines/NAME/users    held, shared, by each user
    .engines/NAME/keeper   held by the keeper
    .engines/NAME/state    where the server answers, and its version; there is none while it starts
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.kinds import KINDS
from engines.missing import EngineMissing
from engines.server import tail

_ROOT = Path(__file__).resolve().parent.parent
FOLDER = _ROOT / ".engines"
_KEEPER = "import sys; from engines.sharing import keep; sys.exit(keep(*sys.argv[1:]))"
_START_SECONDS = 90.0
_LOOK_SECONDS = 1.0


def join(name: str, place: Path = FOLDER) -> tuple[str, str]:
    """The URL and version of the shared server, started if need be. This process uses it until it ends.

    Args:
        name: the kind of server.
        place: the folder of all shared servers: who names the same shares the same.

    Raises:
        EngineMissing: it could not be started.
    """
    folder = place / name
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if not _hold(folder / "users", fcntl.LOCK_SH):
            # Only the keeper holds it exclusively, and only under the lock.
            raise EngineMissing(
                f"{name}: {folder / 'users'} is locked by a process that is none of this"
            )
        _wait_for_state(name, folder, None if _kept(folder) else _start_keeper(name, folder))
        answer = json.loads((folder / "state").read_text())
        return answer["url"], answer["version"]


def _start_keeper(name: str, folder: Path) -> subprocess.Popen[bytes]:
    (folder / "state").unlink(missing_ok=True)
    with (folder / "keeper.log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-c", _KEEPER, name, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=_ROOT,
            start_new_session=True,
        )


def _wait_for_state(name: str, folder: Path, keeper: subprocess.Popen[bytes] | None) -> None:
    """Wait until the server answers. There is no keeper of ours if another process started one."""
    deadline = time.monotonic() + _START_SECONDS
    while not (folder / "state").exists():
        ended = not _kept(folder) if keeper is None else keeper.poll() is not None
        if ended:
            raise EngineMissing(f"{name} could not be started: {tail(folder / 'keeper.log', 1)}")
        if time.monotonic() > deadline:
            raise EngineMissing(
                f"{name} did not start within {_START_SECONDS:.0f} s: see {folder / 'keeper.log'}"
            )
        time.sleep(0.02)
    if keeper is not None:
        # It outlives this process if others use the server: nobody is to wait for it.
        keeper.returncode = 0


def _kept(folder: Path) -> bool:
    """Whether a keeper runs."""
    with (folder / "keeper").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


_held: dict[Path, int] = {}


def _hold(path: Path, how: int) -> bool:
    """Lock a file for as long as this process lives, or say that another has it."""
    file = _held.get(path)
    if file is None:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        if path not in _held:
            os.close(file)
        return False
    _held[path] = file
    return True


def _hold_within(seconds: float, path: Path) -> bool:
    deadline = time.monotonic() + seconds
    while not _hold(path, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def keep(name: str, place: str) -> int:
    """Own the server until its last user has gone: the keeper's program. Returns its exit code."""
    folder = Path(place)
    # Who looks whether there is a keeper holds its lock for a moment.
    if not _hold_within(1.0, folder / "keeper"):
        print(f"{name} has a keeper already")
        return 1
    data = folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    server = KINDS[name](data)
    server.lasting = False  # it ends with its last user
    try:
        server.start()
    except EngineMissing as error:
        print(error)
        server.close()
        return 1
    state = folder / "state"
    writing = folder / "state.new"
    writing.write_text(json.dumps({"url": server.url, "version": server.version}))
    writing.rename(state)
    while server.running:
        time.sleep(_LOOK_SECONDS)
        with _locked(folder):
            if _hold(folder / "users", fcntl.LOCK_EX):
                state.unlink(missing_ok=True)
                server.close()
                shutil.rmtree(data, ignore_errors=True)
                return 0
    # The server ended by itself: whoever asks next gets a new one.
    state.unlink(missing_ok=True)
    server.close()
    return 1

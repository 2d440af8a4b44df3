"""Processes on one database and broker: started, killed, stopped, woken and finished by a test."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults.world import World

ROOT = Path(__file__).resolve().parent.parent.parent
WORKER = (sys.executable, "-m", "tests.faults.worker")
_ANSWERED_SECONDS = 0.5
"""How long a server is given for what is under way to it: it answers in milliseconds."""


def seed_of_run() -> int:
    """The seed: HEADRACE_SEED repeats a run, as far as the machine's timing lets it."""
    given = os.environ.get("HEADRACE_SEED")
    seed = int(given) if given else random.SystemRandom().randrange(1_000_000)
    print(f"HEADRACE_SEED={seed}", flush=True)
    return seed


class Worker:
    """One process of `tests.faults.worker`, which waits to be told to start."""

    def __init__(self, folder: Path, seed: int, name: str, pace: float, *seam: str) -> None:
        self.name = name
        self._runs = False
        self._log = (folder / f"{name}.log").open("wb")
        self.process = subprocess.Popen(
            [*WORKER, str(folder), str(seed), name, str(pace), *seam],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def start(self, word: str = "go") -> None:
        """Let it start its app, to send ("go") or to "finish"; returns when it is about to."""
        assert self.process.stdin is not None
        self.until("ready")
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        self.until("starting")

    def running(self) -> None:
        """Wait until its app runs."""
        if not self._runs:
            self.until("running")
            self._runs = True

    def until(self, word: str) -> str:
        """Wait until it says a line that begins so; the test's time limit is the limit."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if line.startswith(word):
                return line
        raise AssertionError(
            f"{self.name} ended with {self.process.wait()} before it said {word!r}: see {self._log.name!r}"
        )

    def kill(self) -> None:
        """Kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.wait()

    def hang(self, seconds: float) -> None:
        """Stop the process, as a debugger or a suspended machine does, and wake it after so long."""
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)

    def tell(self) -> None:
        """Let it write into its log where its threads are."""
        if not self.ended:
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(0.5)

    def terminate(self) -> int:
        """Ask it to stop, and wait until it has. Returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        code = self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._log):
            if stream is not None:
                stream.close()
        return code

    @property
    def ended(self) -> bool:
        """True if the process is gone."""
        return self.process.poll() is not None


class Fleet:
    """The processes of one run. Spares are started ahead, so that a kill is followed by a start at once.

    Args:
        folder: for the answers and the logs.
        seed: decides everything but the machine's timing.
        pace: the mean pause of each of four senders in a process, in seconds.
        spares: processes that wait with their imports done. The last of them finishes.
        world: the engines; default SQLite in the folder, topics in the same file.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        pace: float,
        spares: int = 2,
        world: World | None = None,
    ) -> None:
        (world or World.on_file(folder)).settle_down(folder)
        self.folder = folder
        self.seed = seed
        self.pace = pace
        self.dice = random.Random(seed)
        self.workers: list[Worker] = []
        self.kills = 0
        self.diary: list[str] = []
        self._began = time.monotonic()
        self._spares = [self._spawn(number) for number in range(spares)]
        self._number = spares

    def _spawn(self, number: int) -> Worker:
        return Worker(self.folder, self.seed, f"w{number}", self.pace)

    def start(self) -> Worker:
        """Start one more process; returns when its app is about to start."""
        self._spares.append(self._spawn(self._number))
        self._number += 1
        worker = self._spares.pop(0)
        self.workers.append(worker)
        worker.start()
        self.note(f"let {worker.name} start")
        return worker

    def kill(self, worker: Worker) -> None:
        """Kill one, which must not have ended by itself."""
        self.workers.remove(worker)
        ended = worker.ended
        worker.kill()
        assert not ended, f"{worker.name} ended by itself: see {self.folder / worker.name}.log"
        self.kills += 1
        self.note(f"killed {worker.name}")

    @contextmanager
    def at_rest(self) -> Generator[None, None, None]:
        """Meanwhile all processes are stopped, and the servers have answered what these had asked for."""
        for worker in self.workers:
            worker.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(_ANSWERED_SECONDS)
            yield
        finally:
            for worker in self.workers:
                worker.process.send_signal(signal.SIGCONT)

    def note(self, what: str) -> None:
        """Write down what happened, for whoever looks for the cause of a finding."""
        self.diary.append(f"{time.monotonic() - self._began:.3f} {what}")

    def kill_at_random(self, longest: float) -> None:
        """Kill a process at a random moment of its work; one time of four, the newest while its app starts."""
        if self.dice.random() < 0.25:
            time.sleep(self.dice.uniform(0.0, 0.2))
            self.kill(self.workers[-1])
            return
        for worker in self.workers:
            worker.running()
        time.sleep(self.dice.uniform(0.0, longest))
        self.kill(self.dice.choice(self.workers))

    def stop(self, worker: Worker) -> None:
        """Let one end in good order (G10)."""
        self.workers.remove(worker)
        code = worker.terminate()
        assert code == 0, f"{worker.name} ended with {code}: see {self.folder / worker.name}.log"

    def dies_at(self, seam: str, times: int) -> None:
        """Start a process that comes to a seam so many times, and kills itself there."""
        worker = Worker(self.folder, self.seed, f"s{self._number}", self.pace, seam, str(times))
        self._number += 1
        self.workers.append(worker)
        worker.start()
        code = worker.wait()
        assert code == -signal.SIGKILL, f"{worker.name} ended with {code} on its way to {seam!r}"
        self.workers.remove(worker)
        self.kills += 1
        self.note(f"{worker.name} died {seam}")

    def finish(self) -> str:
        """A last process heals, settles and redrives until nothing is left. Returns what it counted."""
        last = self._spares.pop() if self._spares else self._spawn(self._number)
        self.note(f"{last.name} finishes")
        try:
            last.start("finish")
            counts = last.until("counts")
            last.until("stopped")
            assert last.wait() == 0
            return counts
        finally:
            last.kill()

    @property
    def unexpected(self) -> str:
        """The errors that nobody planned."""
        file = self.folder / "unexpected"
        return file.read_text() if file.exists() else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            print(*self.diary, f"{time.monotonic() - self._began:.3f} {error!r}", sep="\n")
            for worker in self.workers:
                worker.tell()
        for worker in (*self.workers, *self._spares):
            worker.kill()

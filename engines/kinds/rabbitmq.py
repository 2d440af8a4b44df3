"""RabbitMQ: Debian's. There is no wheel that carries it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from engines import answers
from engines.process import Command, free_port
from engines.server import Server

_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class Rabbitmq(Server):
    """A RabbitMQ node of its own name, with a name server (epmd) of its own."""

    name = "rabbitmq"
    local_urls = ("amqp://guest:guest@127.0.0.1:5672/",)
    debian = "rabbitmq-server"
    ask = staticmethod(answers.rabbitmq)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._names_port = free_port()
        self._nodes_port = free_port()

    @classmethod
    def program(cls) -> Path | None:
        return _SCRIPT if _SCRIPT.exists() and shutil.which("epmd") else None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def prepare(self) -> None:
        (self.folder / "rabbitmq.conf").write_text(f"listeners.tcp.local = 127.0.0.1:{self.port}\n")
        # Else the machine's own settings are read, and its node's name with them.
        (self.folder / "environment.conf").write_text("")
        (self.folder / "plugins").write_text("[].\n")

    def companions(self) -> Sequence[Command]:
        # Left to itself a node starts a name server that outlives it.
        argv: list[str | Path] = ["epmd", "-port", str(self._names_port), "-address", "127.0.0.1"]
        return [Command(argv, self.folder, self.folder / "epmd.log")]

    def command(self) -> Command:
        settings = {
            "NODENAME": f"headrace{self.port}@localhost",
            "NODE_IP_ADDRESS": "127.0.0.1",
            "NODE_PORT": str(self.port),
            "DIST_PORT": str(self._nodes_port),
            "CONF_ENV_FILE": str(self.folder / "environment.conf"),
            "CONFIG_FILE": str(self.folder / "rabbitmq"),
            "ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "MNESIA_BASE": str(self.folder / "data"),
            "LOG_BASE": str(self.folder / "log"),
            "PID_FILE": str(self.folder / "pid"),
            "SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # The script becomes the node, which then gets the signals itself.
            "ALLOW_INPUT": "1",
            "SERVER_START_ARGS": "-noinput",
        }
        environment = {f"RABBITMQ_{name}": value for name, value in settings.items()}
        environment |= {
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._names_port),
            # The node's secret is kept there.
            "HOME": str(self.folder),
        }
        return Command([_SCRIPT], self.folder, self.log, environment)

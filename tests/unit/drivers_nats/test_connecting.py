"""Who connects, to what, and what is refused."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nkeys
import pytest

from engines.process import Command, Process, free_port
from headrace.drivers.nats import Auth, NatsBroker, Tls
from headrace.errors import BrokerUnavailable, ConfigurationError
from tests.unit.drivers_nats.place import Place, new_server

_USER_SEED = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER)

# The reset of the line may overtake what the server says.
REFUSED = r"(?i)authorization violation|refuses a login"


class Configured:
    """A server with a configuration of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: Process | None = None

    async def start(self, configuration: str, *, jetstream: bool = True) -> str:
        """Start it and return its `host:port`, when it answers."""
        file = self.folder / "nats.conf"
        store = f'jetstream {{ store_dir: "{self.folder / "data"}" }}' if jetstream else ""
        file.write_text(f'listen: "127.0.0.1:{self.port}"\n{store}\n{configuration}\n')
        program = new_server().program()
        assert program is not None
        self.process = Process(Command([program, "-c", file], self.folder, self.folder / "log"))
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        writer.close()
        await writer.wait_closed()
        return f"127.0.0.1:{self.port}"


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Configured]:
    made = Configured(tmp_path)
    yield made
    if made.process is not None:
        made.process.stop()


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """An authority, a certificate of the server and one of a client, in a folder."""

    def run(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    new = ("req", "-newkey", "rsa:2048", "-nodes")
    run(*new, "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "client"):
        run(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        sign = ("x509", "-req", "-days", "2", "-CA", "ca.pem", "-CAkey", "ca.key")
        files = ("-CAcreateserial", "-extfile", "san", "-in", f"{name}.csr", "-out", f"{name}.pem")
        run(*sign, *files)
    return tmp_path


async def _connects(broker: NatsBroker) -> None:
    await broker.start(None)
    await broker.stop()


async def test_a_user_and_a_password(configured: Configured) -> None:
    """The user of a URL is let in; a wrong password is an error without it, and so is none."""
    server = await configured.start('authorization { user: "us@er", password: "pa/ss" }')
    await _connects(NatsBroker.from_url(f"nats://us%40er:pa%2Fss@{server}"))
    await _connects(NatsBroker(server, auth=Auth(user="us@er", password="pa/ss")))
    with pytest.raises(BrokerUnavailable, match=REFUSED) as caught:
        await _connects(NatsBroker.from_url(f"nats://us%40er:hush-hush@{server}"))
    assert "hush" not in str(caught.value)
    with pytest.raises(BrokerUnavailable, match=REFUSED):
        await _connects(NatsBroker(server))


async def test_a_token(configured: Configured) -> None:
    """A token stands alone before the host, or is a setting."""
    server = await configured.start('authorization { token: "s3cr3t" }')
    await _connects(NatsBroker.from_url(f"nats://s3cr3t@{server}"))
    await _connects(NatsBroker.from_url(f"nats://{server}?token=s3cr3t"))


async def test_an_nkey(configured: Configured, tmp_path: Path) -> None:
    """A seed in a file signs the server's challenge."""
    pair = nkeys.from_seed(bytearray(_USER_SEED))
    file = tmp_path / "user.nk"
    file.write_bytes(_USER_SEED)
    key = pair.public_key.decode()
    server = await configured.start(f"authorization {{ users: [ {{ nkey: {key} }} ] }}")
    await _connects(NatsBroker.from_url(f"nats://{server}?nkey_file={file}"))


async def test_tls(configured: Configured, certificates: Path) -> None:
    """TLS with the server's authority, and a certificate of the client's own; another authority is not trusted."""
    at = certificates
    server = await configured.start(
        f'tls {{ cert_file: "{at}/server.pem", key_file: "{at}/server.key", ca_file: "{at}/ca.pem", verify: true }}'
    )
    own = f"cert={at}/client.pem&key={at}/client.key"
    await _connects(NatsBroker.from_url(f"natss://{server}?ca={at}/ca.pem&{own}"))
    await _connects(NatsBroker.from_url(f"natss://{server}?verify=false&{own}"))
    with pytest.raises(BrokerUnavailable, match=r"(?i)certificate"):
        await _connects(NatsBroker.from_url(f"natss://{server}?{own}"))
    with pytest.raises(BrokerUnavailable):
        await _connects(NatsBroker.from_url(f"natss://{server}?ca={at}/ca.pem"))
    wrong = Tls(f"{at}/ca.pem", f"{at}/client.pem", f"{at}/client.key", hostname="other.host")
    with pytest.raises(BrokerUnavailable, match=r"other\.host"):
        await _connects(NatsBroker(server, tls=wrong))


async def test_tls_first(configured: Configured, certificates: Path) -> None:
    """A server that expects TLS before it says anything is met so."""
    at = certificates
    server = await configured.start(
        f'tls {{ cert_file: "{at}/server.pem", key_file: "{at}/server.key", handshake_first: true }}'
    )
    url = f"natss://{server}?ca={at}/ca.pem&handshake_first=true"
    await _connects(NatsBroker.from_url(url))


async def test_a_secret_is_not_sent_in_plain_text() -> None:
    """When TLS was asked for and the server offers none, nothing secret is sent, and the error says what to do."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b'INFO {"server_id":"x","version":"2.10.0","headers":true,"max_payload":1048576}\r\n'
        )
        heard.append(await reader.read(4096))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as fake:
        port = fake.sockets[0].getsockname()[1]
        with pytest.raises(ConfigurationError, match="speaks no TLS"):
            await _connects(NatsBroker.from_url(f"natss://user:hush-hush@127.0.0.1:{port}"))
    assert b"hush" not in b"".join(heard)


async def test_an_old_server_is_refused() -> None:
    """A server older than 2.9 is refused at the start, with both versions in the error."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b'INFO {"server_id":"x","version":"2.8.4","headers":true,"max_payload":1048576}\r\n'
        )
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as fake:
        port = fake.sockets[0].getsockname()[1]
        with pytest.raises(ConfigurationError, match=r"version 2\.8\.4; Headrace needs 2\.9"):
            await _connects(NatsBroker(f"127.0.0.1:{port}"))


async def test_a_server_without_jetstream_is_refused(configured: Configured) -> None:
    """A server that stores nothing is refused at the start, with what to start it with."""
    server = await configured.start("", jetstream=False)
    with pytest.raises(ConfigurationError, match=r"JetStream.*-js"):
        await _connects(NatsBroker(server))


async def test_a_server_that_is_away() -> None:
    """A server that is not there, or does not speak, is unavailable within the time-out, all addresses in the error."""
    port = free_port()
    with pytest.raises(BrokerUnavailable, match=rf"127\.0\.0\.1:{port}.*ConnectionRefused"):
        await _connects(NatsBroker(f"127.0.0.1:{port}"))

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as fake:
        mute = fake.sockets[0].getsockname()[1]
        broker = NatsBroker(f"127.0.0.1:{mute},127.0.0.1:{port}", timeout_seconds=0.3)
        with pytest.raises(BrokerUnavailable, match="no answer within") as caught:
            await _connects(broker)
        assert str(port) in str(caught.value)


async def test_the_next_server_is_taken(place: Place) -> None:
    """Of several servers one that answers is enough."""
    broker = place.broker(f"127.0.0.1:{free_port()},{place.url}")
    await broker.start(None)


async def test_a_weaker_durability_is_said(place: Place) -> None:
    """The start warns that confirmed messages may not be on disk yet, unless the user says that they are."""
    (warning,) = await place.broker().start(None)
    assert "sync_interval: always" in warning
    assert await place.broker(synced=True).start(None) == ()


async def test_a_refused_subject_is_said(configured: Configured) -> None:
    """A permission that lacks is in the error, at once and not after the time-out."""
    server = await configured.start(
        'authorization { users: [ { user: u, password: p, permissions: { publish: ["$JS.API.INFO"] } } ] }'
    )
    broker = NatsBroker.from_url(f"nats://u:p@{server}")
    await broker.start(None)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(BrokerUnavailable, match=r"(?i)permissions violation"):
                await broker.partitions("orders")
    finally:
        await broker.stop()

"""TLS settings of drivers: what cannot be used is said, and nobody is asked at the terminal."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from headrace.drivers.nats.settings import Tls as NatsTls
from headrace.drivers.rabbitmq.settings import Tls as RabbitTls
from headrace.errors import ConfigurationError

KINDS = pytest.mark.parametrize("kind", [NatsTls, RabbitTls])


@pytest.fixture
def encrypted(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate, and its key encrypted with the password "hush-hush"."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-keyout", key, "-out", cert, "-passout", "pass:hush-hush", "-subj", "/CN=us"),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


@KINDS
def test_an_encrypted_key_takes_its_password(
    kind: type[NatsTls] | type[RabbitTls], encrypted: tuple[Path, Path]
) -> None:
    """With `key_password` an encrypted key is read; the password stands nowhere."""
    cert, key = encrypted
    tls = kind(cert=cert, key=key, key_password="hush-hush")
    assert tls.context().check_hostname
    assert "hush-hush" not in repr(tls)


@KINDS
@pytest.mark.parametrize("password", [None, "wrong-one"])
def test_a_key_without_its_password_is_an_error_at_once(
    kind: type[NatsTls] | type[RabbitTls], encrypted: tuple[Path, Path], password: str | None
) -> None:
    """Without the password nobody waits at a terminal: it is an error that names the setting."""
    cert, key = encrypted
    with pytest.raises(ConfigurationError, match="key_password") as error:
        kind(cert=cert, key=key, key_password=password).context()
    assert "wrong-one" not in str(error.value)


@KINDS
def test_a_missing_file_is_named(kind: type[NatsTls] | type[RabbitTls], tmp_path: Path) -> None:
    """A file that is not there stands in the error."""
    with pytest.raises(ConfigurationError, match=r"no-ca\.pem"):
        kind(ca=tmp_path / "no-ca.pem").context()

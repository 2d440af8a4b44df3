"""A new body for a dead letter: from a file, from the standard input, or from an editor."""

from __future__ import annotations

import difflib
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.text import Text

from headrace.cli.ending import Code, Fault


def from_file(given: str) -> bytes:
    """The bytes of a file, or of the standard input for "-".

    Raises:
        Fault: it cannot be read.
    """
    if given == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(given).read_bytes()
    except OSError as error:
        raise Fault(f"{given} cannot be read: {error.strerror or error}.", Code.USAGE) from error


def like(before: bytes, given: bytes) -> bytes:
    """What was given, in the form of what was there: JSON without lines between. What is no JSON stays as it is."""
    try:
        msgspec.json.decode(before)
        return msgspec.json.format(given, indent=-1)
    except msgspec.MsgspecError:
        return given


def by_editor(data: bytes) -> bytes:
    """What somebody made of a body in their editor. JSON is shown in lines, and comes back without them.

    Raises:
        Fault: there is no terminal or no editor, it failed, or the body is no text.
        ValueError: what was made of a body of JSON is none.
    """
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise Fault(
            "there is no terminal for an editor. Pass the new body as --data FILE, or --data - for the standard input.",
            Code.USAGE,
        )
    is_json, text = _shown(data)
    changed = _edited(text, ".json" if is_json else ".txt")
    if changed == text:
        return data
    if not is_json:
        return changed.encode()
    try:
        return msgspec.json.format(changed.encode(), indent=-1)
    except msgspec.MsgspecError as error:
        raise ValueError(f"this is no JSON: {error}") from error


def difference(before: bytes, after: bytes) -> Text:
    """The lines that change."""
    lines = difflib.unified_diff(
        _shown(before)[1].splitlines(),
        _shown(after)[1].splitlines(),
        "before",
        "after",
        lineterm="",
    )
    text = Text()
    for line in lines:
        style = {"+": "green", "-": "red", "@": "dim"}.get(line[:1], "")
        text.append(f"{line}\n", style)
    return text


def _shown(data: bytes) -> tuple[bool, str]:
    try:
        return True, msgspec.json.format(data, indent=2).decode() + "\n"
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        return False, data.decode()
    except UnicodeDecodeError as error:
        raise Fault("this body is no text. Pass the new one as --data FILE.", Code.USAGE) from error


def _edited(text: str, suffix: str) -> str:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        file = Path(folder) / f"body{suffix}"
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Fault(
                f"the editor {editor!r} failed: {error}. Nothing was changed. Set EDITOR to another one, or pass --data FILE.",
                Code.USAGE,
            ) from error
        return file.read_text(encoding="utf-8")

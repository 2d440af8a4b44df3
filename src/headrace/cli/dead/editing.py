"""A new body for a dead letter: from a file, from the standard input, or from an editor."""

from __future__ import annotations

import difflib
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec
from rich.text import Text

from headrace.cli.asking import confirm
from headrace.cli.ending import Code, Fault
from headrace.dead_letters import DeadLetter, DeadLetters
from headrace.errors import DecodeError, MessageTooLarge
from headrace.redaction import Hidden, Unusable

_NOTHING: Final = Hidden(())


def new_body(
    letters: DeadLetters, letter: DeadLetter, given: str | None, hidden: Hidden = _NOTHING
) -> bytes:
    """The new body, which the app can read. In an editor there is another try.

    Args:
        letters: check it.
        letter: whose body it becomes.
        given: a file, "-" for the standard input, or None for an editor.
        hidden: what people see as marks. A mark in the new body stands for the value that was there.

    Raises:
        Fault: it cannot be read, or there is no editor.
        DecodeError: the app cannot read it.
        MessageTooLarge: it is larger than the app allows.
    """
    if given is None:
        return _by_editor(letters, letter, hidden)
    try:
        body = body_of(letter.data, from_file(given), hidden)
    except Unusable as error:
        raise Fault(f"{error} Nothing was changed.", Code.FAULT) from error
    _check(letters, letter, body, hidden)
    return body


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


def body_of(before: bytes, given: bytes, hidden: Hidden = _NOTHING) -> bytes:
    """What was given, in the form of what was there, with the hidden values where their marks stand.

    JSON has no lines between. What is no JSON stays as it is.

    Raises:
        Unusable: it is no JSON though there are hidden fields, or a mark stands where its value could be seen.
    """
    if hidden and hidden.show(before).editable:
        try:
            return hidden.restore(given.decode(), before)
        except UnicodeDecodeError:
            raise Unusable("This is no text.") from None
    try:
        msgspec.json.decode(before)
        return msgspec.json.format(given, indent=-1)
    except msgspec.MsgspecError:
        return given


def difference(before: bytes, after: bytes, hidden: Hidden = _NOTHING) -> Text:
    """The lines that change, and how many values that are hidden."""
    lines = difflib.unified_diff(
        hidden.show(before).text.splitlines(),
        hidden.show(after).text.splitlines(),
        "before",
        "after",
        lineterm="",
    )
    text = Text()
    for line in lines:
        style = {"+": "green", "-": "red", "@": "dim"}.get(line[:1], "")
        text.append(f"{line}\n", style)
    if count := hidden.changed(before, after):
        text.append(f"{count} hidden value{' changes' if count == 1 else 's change'}.\n")
    return text


def _by_editor(letters: DeadLetters, letter: DeadLetter, hidden: Hidden) -> bytes:
    """What somebody made of a body in their editor. JSON is shown in lines, and comes back without them.

    Raises:
        Fault: there is no terminal or no editor, it failed, or the body cannot be shown as text.
    """
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise Fault(
            "there is no terminal for an editor. Pass the new body as --data FILE, or --data - for the standard input.",
            Code.USAGE,
        )
    shown = hidden.show(letter.data)
    if not shown.editable:
        raise Fault(
            f"the body cannot be edited as text: {shown.text} Pass the new one as --data FILE.",
            Code.USAGE,
        )
    is_json = _fault_in(letter.data) is None
    start = text = f"{shown.text}\n" if is_json else shown.text
    while True:
        text = _edited(text, ".json" if is_json else ".txt")
        if text == start:
            return letter.data
        try:
            body = body_of(letter.data, text.encode(), hidden)
            if is_json and (fault := _fault_in(body)) is not None:
                raise Unusable(f"This is no JSON: {fault}.")
            _check(letters, letter, body, hidden)
            return body
        except (Unusable, DecodeError, MessageTooLarge) as error:
            confirm(f"{error}\nEdit it again", yes=False)


def _check(letters: DeadLetters, letter: DeadLetter, body: bytes, hidden: Hidden) -> None:
    try:
        if body != letter.data:
            letters.check_body(letter, body)
    except (DecodeError, MessageTooLarge) as error:
        said = str(error.args[0]) if error.args else ""
        raise type(error)(hidden.scrub(said, letter.data)) from None


def _fault_in(data: bytes) -> str | None:
    """Why this is no JSON, or None."""
    try:
        msgspec.json.decode(data)
    except msgspec.MsgspecError as error:
        return str(error)
    return None


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

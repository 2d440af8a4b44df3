"""`headrace asyncapi`: the AsyncAPI document of an app."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from headrace.asyncapi import document, to_yaml
from headrace.cli.ending import Code, Fault
from headrace.cli.loading import load
from headrace.cli.output import App, Json, answering

_FEW = 5


class Format(enum.StrEnum):
    """How the document is written."""

    YAML = "yaml"
    JSON = "json"


def asyncapi(
    app: App,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file. Default: standard output."),
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        Format | None,
        typer.Option(help="Default: json if the file ends so, else yaml."),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Of the document. Default: the app's name.")
    ] = None,
    app_version: Annotated[
        str, typer.Option(help="Of what the document describes, as you count it.")
    ] = "0.0.0",
    all: Annotated[  # noqa: A002 - the option's name
        bool, typer.Option("--all", help="Commands and queries too, which stay in the process.")
    ] = False,
    json: Json = False,
) -> None:
    """Write the AsyncAPI document of an app.

    Version 3.0: topics, what is published and read, where, and the schemas of messages. It connects to nothing.
    """
    with answering(app, json):
        loaded = load(app)
        made = document(loaded, title=title, version=app_version, requests=all)
        is_json = json or _wanted(format, output) is Format.JSON
        encoded = msgspec.json.format(msgspec.json.encode(made), indent=2).decode() + "\n"
        text = encoded if is_json else to_yaml(made)
        if output is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            _write(output, text)
        _say_what_is_missing(made.get("x-headrace-undeclared"))


def _wanted(given: Format | None, output: Path | None) -> Format:
    if given is not None:
        return given
    return Format.JSON if output is not None and output.suffix == ".json" else Format.YAML


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Fault(
            f"{output} cannot be written: {error.strerror or error}.", Code.USAGE
        ) from error


def _say_what_is_missing(undeclared: object) -> None:
    names = msgspec.convert(undeclared or [], list[str])
    if not names:
        return
    more = ", ..." if len(names) > _FEW else ""
    sys.stderr.write(
        f"headrace: what these handlers publish is not declared, so it may be missing here: {', '.join(names[:_FEW])}{more}. "
        "Bind them with raises=[...].\n"
    )

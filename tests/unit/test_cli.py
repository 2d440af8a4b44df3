"""What the commands share: asking, writing, ending, spans of time, what makes an app unhealthy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from headrace.assembly import AppStatus
from headrace.assembly.ownership import Ownership
from headrace.assembly.pulse import ProcessPulse
from headrace.assembly.status import GroupStatus
from headrace.cli import asking
from headrace.cli.ending import Code, Fault
from headrace.cli.flow import Format, _format_of
from headrace.cli.output import answering
from headrace.cli.reloading import snapshot
from headrace.cli.standing import _lines, _problems, short
from headrace.cli.times import for_long
from headrace.errors import ConfigurationError, StorageUnavailable
from headrace.limits import Limits
from headrace.storage import Backlog


@contextmanager
def ends_with(code: int) -> Iterator[None]:
    with pytest.raises(typer.Exit) as caught:
        yield
    assert caught.value.exit_code == code


def test_a_change_is_asked_for_or_agreed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no terminal to ask on, only --yes lets it be done."""
    asking.confirm("Drop it", yes=True)
    with pytest.raises(Fault, match=r"Drop it\? There is no terminal to ask on.*--yes") as caught:
        asking.confirm("Drop it", yes=False)
    assert caught.value.code is Code.USAGE
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for answer in ("y", " YES "):
        monkeypatch.setattr("builtins.input", lambda answer=answer: answer)
        asking.confirm("Drop it", yes=False)
    for answer in ("", "n", "what"):
        monkeypatch.setattr("builtins.input", lambda answer=answer: answer)
        with pytest.raises(Fault, match="nothing was changed"):
            asking.confirm("Drop it", yes=False)


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (StorageUnavailable("gone"), 3, "HR030"),
        (ConfigurationError("wrong"), 1, "HR004"),
        (Fault("no such thing", Code.USAGE), 2, None),
        (ValueError("a bug"), 1, None),
    ],
)
def test_an_error_ends_a_command_in_words_or_as_json(
    error: Exception, code: int, name: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """People read the error stream, programs read one document of standard output."""
    with ends_with(code), answering("shop:app"):
        raise error
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("headrace: ")
    with ends_with(code), answering("shop:app", json=True):
        raise error
    out, err = capsys.readouterr()
    assert err == ""
    told = json.loads(out)["error"]
    assert (told["code"], told["exit_code"]) == (name, code)


def test_json_is_one_document_or_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """Plain values, dataclasses and Structs; what JSON does not know as text."""

    @dataclass
    class Data:
        where: Path

    with answering("shop:app", json=True) as out:
        out.data({"a": Data(Path("x"))})
        out.data([1], lines=True)
    assert capsys.readouterr().out == '{\n  "a": {\n    "where": "x"\n  }\n}\n[1]\n'


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *[(0, "0.0 s"), (0.4, "0.4 s"), (12.4, "12 s"), (119, "119 s"), (180, "3 min")],
        *[(7200, "2 h"), (172800, "2 d")],
    ],
)
def test_spans_of_time_are_said_shortly(seconds: float, words: str) -> None:
    """In the unit in which people would say them."""
    assert for_long(seconds) == words


def pulse(process: str, *roles: str, paused: tuple[str, ...] = ()) -> ProcessPulse:
    return ProcessPulse(
        process=process, pid=1, host="h", roles=roles, started_at=0, at=1, counts={}, paused=paused
    )


def problems(
    outbox: Backlog, owners: dict[int, str | None], *pulses: ProcessPulse, error: str | None = None
) -> list[str]:
    status = AppStatus(
        relay=None,
        consumers=(),
        outbox=outbox,
        ownership=(Ownership("outbox:a", owners), Ownership("group:a/t", {0: None})),
        groups=(GroupStatus("a", "t", 0, Backlog(held=3, dead=1)),),
    )
    paused = [one for each in pulses for one in each.paused]
    lines = list(_lines("a", status, {}))
    return list(_problems(lines, pulses, paused, error, Limits(unsent_seconds=60)))


def test_messages_that_nobody_works_are_a_problem() -> None:
    """Not what nobody works while there is nothing to do; nor dead letters and what they hold, which wait for a person."""
    nobody: dict[int, str | None] = {0: None, 1: None}
    assert problems(Backlog(), nobody) == []
    assert problems(Backlog(ready=2), {0: "h:1:x", 1: "h:1:x"}) == []
    (told,) = problems(Backlog(ready=2), nobody)
    assert told.endswith("no process that is alive has the role relay. Start a worker.")
    (told,) = problems(Backlog(ready=2), nobody, pulse("h:1:x", "relay"))
    assert told.endswith("a process has the role relay. Look into its log.")
    (told,) = problems(Backlog(ready=2), {0: "h:1:x", 1: None}, pulse("h:1:x", "relay"))
    assert "nobody works 1 partition;" in told


def test_old_events_pauses_and_a_broker_that_is_away_are_problems() -> None:
    """Each is told in words."""
    mine: dict[int, str | None] = {0: "h:1:x"}
    (told,) = problems(Backlog(ready=1, oldest_seconds=61), mine)
    assert "has waited for 61 s; Limits(unsent_seconds=...) allows 60" in told
    paused = pulse("h:1:x", "relay", paused=("Topic t is paused.",))
    assert problems(Backlog(), mine, paused, error="Away.") == ["Topic t is paused.", "Away."]


def test_a_process_is_named_without_what_makes_it_unique() -> None:
    """Host and number are what people look for."""
    assert short("web-1:812:abcd") == "web-1:812"


def test_only_files_of_the_program_are_watched(tmp_path: Path) -> None:
    """Not hidden folders, caches, virtual environments and installed packages."""
    for name in (
        "app.py",
        "deep/er/part.py",
        "notes.txt",
        ".git/hook.py",
        "__pycache__/app.py",
        "venv/pyvenv.cfg",
        "venv/lib/x.py",
        "lib/site-packages/y.py",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    seen = snapshot([tmp_path])
    assert sorted(seen) == [str(tmp_path / "app.py"), str(tmp_path / "deep/er/part.py")]
    (tmp_path / "app.py").write_text("changed")
    assert snapshot([tmp_path]) != seen


def test_a_file_whose_name_tells_no_format_is_refused() -> None:
    """A picture that is text would be found out by whoever opens it."""
    with pytest.raises(Fault, match=r"flow\.png does not tell .* \.svg, .*--format"):
        _format_of(Path("flow.png"))
    assert _format_of(Path("flow.SVG")) is Format.SVG

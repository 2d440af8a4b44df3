"""The pages of the dashboard: what they show, where they may be mounted, what they do when something is wrong."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys

import httpx
import pytest
from fastapi import FastAPI

from headrace.dashboard import Dashboard
from headrace.errors import ConfigurationError, StorageUnavailable
from headrace.storage import Stored
from tests.unit.dashboards import ORIGIN, Charge, ada, charge, client_of, make_app, position_of

PAGES = ("", "messages", "backlogs", "dead", "dead/list", "audit")


async def test_every_page_is_shown_and_nothing_on_it_can_be_changed() -> None:
    """Without a hook there is no form, no button and no route that changes anything."""
    app = make_app()
    async with app, client_of(Dashboard(app)) as client:
        await charge(app, 1, -1)
        position = await position_of(app)
        for page in (*PAGES, f"dead/{position}", "messages?of=o1"):
            answer = await client.get(page)
            assert answer.status_code == 200, page
            assert 'method="post"' not in answer.text
            assert '<button type="submit"' not in answer.text.split("<main")[1]
        for path in ("dead/redrive", "dead/drop", f"dead/{position}/edit", "dead/ask"):
            assert (await client.post(path)).status_code in (404, 405)
        assert (await client.get(f"dead/{position}/edit")).status_code == 404


async def test_dead_letters_stand_in_groups_lists_and_alone() -> None:
    """Grouped by error with their number, listed page by page, and one with its body, error, traceback and envelope."""
    app = make_app()
    async with app, client_of(Dashboard(app)) as client:
        await charge(app, -1)
        await charge(app, -2, order="o2")
        groups = await client.get("dead")
        assert "2 dead letters in 1 group" in groups.text
        assert "ValueError" in groups.text
        assert "group shop on payments" in groups.text
        (query,) = set(re.findall(r'href="\./dead/list\?([^"]+)"', groups.text))
        listed = await client.get("dead/list?" + query.replace("&amp;", "&"))
        first, second = [one.position for one in await app.dead_letters.list()]
        assert listed.text.index(f"dead/{first}") < listed.text.index(f"dead/{second}")
        one = await client.get(f"dead/{second}")
        assert "payments.charged.v1" in one.text
        assert "&#34;amount&#34;: -2" in one.text
        assert "Traceback (most recent call last)" in one.text
        assert "would owe &lt;b&gt;-2&lt;/b&gt;" in one.text
        assert "<b>-2" not in one.text


async def test_what_waits_behind_a_dead_letter_is_counted_on_its_page() -> None:
    """Later messages of its key are held, and the page says how many."""
    app = make_app()
    async with app, client_of(Dashboard(app)) as client:
        await charge(app, -1, 2, 3)
        page = await client.get(f"dead/{await position_of(app)}")
        assert "2 messages wait" in page.text


async def test_a_long_list_is_cut_into_pages() -> None:
    """A page has fifty, and a link to the next one, which begins behind the last."""
    app = make_app()
    async with app, client_of(Dashboard(app)) as client:
        for number in range(52):
            await app.send(Charge(f"o{number}", -1))
        await app.settle()
        first = await client.get("dead/list")
        assert first.text.count("data-row") == 50
        (following,) = re.findall(r'rel="next" href="([^"]+)"', first.text)
        second = await client.get(following)
        assert second.text.count("data-row") == 2
        assert 'rel="next"' not in second.text


async def test_a_message_and_a_key_have_their_lives_told() -> None:
    """By its id a message's way is told, by a key what is stored of it; what is unknown is said to be."""
    app = make_app()
    async with app, client_of(Dashboard(app)) as client:
        await charge(app, -1, 2)
        letter = (await app.dead_letters.list())[0]
        message = await client.get("messages", params={"of": letter.envelope.id})
        assert f"dead letter {letter.position}" in message.text
        key = await client.get("messages", params={"of": "o1"})
        assert "held" in key.text
        nothing = await client.get("messages", params={"of": "nobody <i>"})
        assert "Nothing is known of this" in nothing.text
        assert "<i>" not in nothing.text


async def test_backlogs_owners_and_processes_are_told() -> None:
    """Each queue has a line with who works it."""
    app = make_app()
    async with app, client_of(Dashboard(app)) as client:
        await charge(app, -1, 2)
        page = (await client.get("backlogs")).text
        assert "outbox of shop" in page
        assert "group shop on payments" in page
        assert "8 of 8" in page


@pytest.mark.parametrize("prefix", ["", "/ops", "/a/deep/place"])
async def test_links_are_right_below_any_prefix(prefix: str) -> None:
    """Every link of every page leads to a page, wherever the dashboard is mounted."""
    app = make_app()
    async with app, client_of(Dashboard(app, authorize=ada), prefix=prefix) as client:
        await charge(app, -1)
        position = await position_of(app)
        for page in (*PAGES, f"dead/{position}", f"dead/{position}/edit"):
            answer = await client.get(page)
            links = set(re.findall(r'(?:href|src|action|data-live)="([^"#]+)"', answer.text))
            assert links
            for link in links - {"./live", "../live", "../../live"}:
                where = answer.url.join(link.replace("&amp;", "&"))
                assert where.path.startswith(prefix + "/")
                if not where.path.endswith(("/dead/redrive", "/dead/drop", "/dead/ask")):
                    assert (await client.get(where)).status_code == 200, (page, link)


async def test_it_may_be_mounted_in_fastapi_with_a_root_path() -> None:
    """A proxy that cuts a prefix off changes nothing: links are relative."""
    app = make_app()
    api = FastAPI()
    api.mount("/flow", Dashboard(app))
    transport = httpx.ASGITransport(app=api, root_path="/behind/a/proxy")
    async with app, httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        page = await client.get("/behind/a/proxy/flow/backlogs")
        assert page.status_code == 200
        assert 'href="./dead"' in page.text


async def test_pages_load_nothing_from_elsewhere_and_run_no_script_of_the_page() -> None:
    """The policy allows files of the dashboard alone, and no page has a script, style or handler within."""
    app = make_app()
    async with app, client_of(Dashboard(app, authorize=ada)) as client:
        await charge(app, -1)
        for page in (*PAGES, f"dead/{await position_of(app)}"):
            answer = await client.get(page)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
            assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", answer.text)
            assert not re.search(r"(?:href|src)=\"(?:https?:)?//", answer.text)
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-frame-options"] == "DENY"


async def test_a_database_that_is_away_is_said_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is 503 with the reason and a way to try again, never a traceback."""
    app = make_app()

    async def away(**_: object) -> list[Stored]:
        raise StorageUnavailable("the database shop at 10.0.0.7 does not answer")

    async with app, client_of(Dashboard(app)) as client:
        assert app.storage is not None
        monkeypatch.setattr(app.storage, "dead_letters", away)
        monkeypatch.setattr(app.storage, "backlog", away)
        answer = await client.get("dead/list")
        assert answer.status_code == 503
        assert "the database shop at 10.0.0.7 does not answer" in answer.text
        assert "Try again" in answer.text


async def test_a_database_that_hangs_holds_a_page_no_longer_than_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the time-out the page says so."""
    app = make_app()

    async def hangs(**_: object) -> list[Stored]:
        await asyncio.Event().wait()
        return []

    async with app, client_of(Dashboard(app, timeout_seconds=0.05)) as client:
        assert app.storage is not None
        monkeypatch.setattr(app.storage, "dead_letters", hangs)
        answer = await client.get("dead/list")
        assert answer.status_code == 503
        assert "has not answered within 0.05 seconds" in answer.text


async def test_an_error_that_nobody_expects_is_told_without_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The page names its type; what a driver says may hold values, and goes to the log alone."""
    app = make_app()

    async def fails(**_: object) -> list[Stored]:
        raise RuntimeError("row (ada@example.com) is broken")

    async with app, client_of(Dashboard(app)) as client:
        assert app.storage is not None
        monkeypatch.setattr(app.storage, "dead_letters", fails)
        answer = await client.get("dead/list")
        assert answer.status_code == 503
        assert "RuntimeError" in answer.text
        assert "ada@example.com" not in answer.text


@pytest.mark.parametrize("package", ["starlette", "jinja2"])
def test_a_missing_package_names_the_extra(package: str) -> None:
    """The error names the package and what to install."""
    program = f"import sys; sys.modules[{package!r}] = None; import headrace.dashboard"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert f"headrace.dashboard needs the package {package!r}" in last
    assert last.endswith("pip install 'headrace[dashboard]'")


async def test_an_app_without_storage_has_its_pages_too() -> None:
    """What is not stored is said not to be."""
    app = make_app(storage=None)
    async with app, client_of(Dashboard(app)) as client:
        await charge(app, -1)
        for page in PAGES:
            assert (await client.get(page)).status_code == 200, page
        assert "remembers no message" in (await client.get("messages?of=o1")).text
        assert "no storage" in (await client.get("audit")).text


async def test_an_unknown_address_and_a_gone_dead_letter_are_said_to_be() -> None:
    """The answer is 404, on a page of the dashboard."""
    app = make_app()
    async with app, client_of(Dashboard(app)) as client:
        assert "There is no such page" in (await client.get("nowhere")).text
        gone = await client.get("dead/4711")
        assert gone.status_code == 404
        assert "4711 is no dead letter" in gone.text
        assert (await client.get("dead/99999999999999999999999")).status_code == 404
        assert (await client.get("messages?of=%00&topic=%00")).status_code == 200
        assert (await client.get("dead/list?queue=%00&error=%FF&after=-1")).status_code == 200
        assert (await client.get("static/../app.py")).status_code == 404
        assert (await client.get("static/layout.html")).status_code == 404


async def test_who_may_not_see_it_sees_nothing() -> None:
    """`authorize_view` stands before every page."""
    app = make_app()

    async def only_with_a_badge(request: object) -> bool:
        return getattr(request, "headers", {}).get("x-badge") == "ops"

    pages = Dashboard(app, authorize_view=only_with_a_badge)
    async with app, client_of(pages) as client:
        await charge(app, -1)
        for page in (*PAGES, "live", f"dead/{await position_of(app)}"):
            answer = await client.get(page)
            assert answer.status_code == 403, page
            assert "payments" not in answer.text
        assert (await client.get("dead", headers={"x-badge": "ops"})).status_code == 200


def test_a_setting_that_cannot_be_used_is_refused() -> None:
    """No time at all to read in would show nothing but errors."""
    with pytest.raises(ConfigurationError, match="timeout_seconds"):
        Dashboard(make_app(), timeout_seconds=0)
    with pytest.raises(ConfigurationError, match="no path of fields"):
        Dashboard(make_app(), redact={"payments.charged.v1": ["card..number"]})

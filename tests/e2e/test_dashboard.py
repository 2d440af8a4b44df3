"""The dashboard in a real browser, over PostgreSQL and RabbitMQ, with a web process and a worker.

`HEADRACE_PICTURES=1 pytest tests/e2e/test_dashboard.py` makes the pictures of the docs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from playwright.async_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tests.browser import browser, page_of
from tests.e2e.checkout import PAYMENTS, PICTURES, PlaceOrder, Site, Urls, fail, orders_coming_in
from tests.e2e.checkout import site as served
from tests.e2e.checkout import urls as fresh_urls

IMAGES = Path(__file__).parents[2] / "docs" / "images"


@pytest.fixture(scope="module")
def urls() -> Iterator[Urls]:
    """One database and one set of topics for all tests here."""
    with fresh_urls() as found:
        yield found


@pytest.fixture
async def site(urls: Urls) -> AsyncIterator[Site]:
    """The dashboard, with actions, in a server."""
    async with served(urls) as found:
        for letter in await found.web.dead_letters.list():
            await found.web.dead_letters.drop(letter.position, reason="a test order", by="ada")
        yield found


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """A browser."""
    async with browser() as found:
        yield found


async def number_in(page: Page, selector: str) -> str:
    return (await page.locator(selector).first.text_content()) or ""


async def test_the_flow_shows_live_numbers_of_all_processes(site: Site, chromium: Browser) -> None:
    """Rates move at the arrows and in the table, also those of handlers that run in the worker; nothing comes from elsewhere."""
    async with page_of(chromium) as watched, orders_coming_in(site.web):
        page = watched.page
        await page.goto(site.url)
        await expect(page.locator("#pulse")).to_have_attribute("data-is", "live")
        moving = page.locator("text.figure", has_text="/s")
        await expect(moving.first).to_be_visible()
        cell = page.locator(f'[data-cell="t:{PAYMENTS} total"]')
        await expect(cell).not_to_have_text("0")
        before = await cell.text_content()
        await expect(cell).not_to_have_text(before or "")
        # The handler runs in the other process, whose pulse tells of it.
        booked = page.locator('tr:has-text("book_parcel") td').nth(1)
        await expect(booked).not_to_have_text("0")
        await expect(page.locator("[data-tile=processes]")).to_have_text("2")
        assert not watched.complaints
        assert {urlsplit(one).netloc for one in watched.loaded} == {urlsplit(site.url).netloc}
        # The server of the fixture stops while this page still follows it.
        site.server.should_exit = True


async def test_a_dead_letter_is_edited_and_redriven_by_keyboard(
    site: Site, chromium: Browser
) -> None:
    """From the list to the mended message without a mouse; what waited behind it follows, and its sensitive field is kept."""
    await fail(site, "order-1", behind=2)
    async with page_of(chromium) as watched:
        page, keys = watched.page, watched.page.keyboard
        await page.goto(site.url + "dead")
        await keys.press("j")
        await keys.press("Enter")
        await expect(page.locator("h1")).to_have_text("AddressUnknown")
        await keys.press("j")
        await keys.press("Enter")
        await expect(page.locator("h1")).to_have_text("payments.card-charged.v1")
        await expect(page.get_by_text("2 messages wait")).to_be_visible()
        assert "ada@example.com" not in await page.content()
        await page.get_by_role("link", name="Edit and redrive").focus()
        await keys.press("Enter")
        body = page.get_by_label("Body")
        await expect(body).to_be_focused()
        text = await body.input_value()
        assert "«hidden 1»" in text
        await keys.press("ControlOrMeta+A")
        await keys.insert_text(text.replace("-1", "1"))
        await keys.press("Tab")
        await expect(page.get_by_role("button", name="Save and redrive")).to_be_focused()
        await keys.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("1 dead letter redriven")
        assert not watched.complaints
    await site.settle()
    assert not await site.web.dead_letters.list()


async def test_marked_dead_letters_are_dropped_with_a_reason_that_the_audit_shows(
    site: Site, chromium: Browser
) -> None:
    """Two of three are marked; the question names the number, and the audit page who, what and why."""
    await fail(site, "order-1", "order-2", "order-3")
    async with page_of(chromium) as watched:
        page = watched.page
        await page.goto(site.url + "dead/list")
        await expect(page.get_by_role("button", name="Drop marked…")).to_be_disabled()
        marks = page.locator('tbody input[type="checkbox"]')
        await marks.nth(0).check()
        await marks.nth(1).check()
        await page.get_by_role("button", name="Drop marked…").click()
        await expect(page.locator("h1")).to_have_text("Drop 2 dead letters?")
        await page.get_by_label("Why they are dropped").fill("the shop is closed")
        await page.get_by_role("button", name="Drop 2 dead letters").click()
        await expect(page.get_by_role("status")).to_contain_text("2 dead letters dropped")
        await page.get_by_role("link", name="Audit").click()
        row = page.locator("tbody tr").first
        await expect(row).to_contain_text("ada")
        await expect(row).to_contain_text("drop")
        await expect(row).to_contain_text("the shop is closed")
        assert not watched.complaints
    assert len(await site.web.dead_letters.list()) == 1


async def test_a_message_is_found_by_id_and_by_key_from_the_header(
    site: Site, chromium: Browser
) -> None:
    """The slash goes to the field; the life of the message leads to its dead letter, and its key to what is held."""
    await fail(site, "order-7", behind=1)
    letter = (await site.web.dead_letters.list())[0]
    async with page_of(chromium) as watched:
        page, keys = watched.page, watched.page.keyboard
        await page.goto(site.url)
        await keys.press("/")
        await keys.insert_text(letter.envelope.id)
        await keys.press("Enter")
        await expect(page.locator("h1")).to_have_text("payments.card-charged.v1")
        await expect(page.locator(".step.dead")).to_contain_text("AddressUnknown")
        await expect(page.locator(".step.handled")).to_contain_text("group mails")
        await page.locator(".facts").get_by_role("link", name="order-7").click()
        await expect(page.locator("h1")).to_have_text("Key order-7")
        await expect(page.locator(".step.held")).to_have_count(1)
        await page.locator(".step.dead").get_by_role("link", name="dead letter").click()
        await expect(page).to_have_url(f"{site.url}dead/{letter.position}")
        assert not watched.complaints


async def test_a_page_of_another_site_cannot_act(site: Site, chromium: Browser) -> None:
    """A form that another origin sends by the browser of somebody who may act is refused, and changes nothing."""
    await fail(site, "order-1")
    position = (await site.web.dead_letters.list())[0].position

    async def trap(request: Request) -> HTMLResponse:
        return HTMLResponse(
            f'<form method="post" action="{site.url}dead/drop"><input name="position" value="{position}">'
            '<input name="reason" value="mischief"><button>Win</button></form>'
        )

    config = uvicorn.Config(
        Starlette(routes=[Route("/", trap)]), host="127.0.0.1", port=0, log_level="warning"
    )
    evil = uvicorn.Server(config)
    serving = asyncio.create_task(evil.serve())
    async with page_of(chromium) as watched:
        page = watched.page
        await page.goto(f"{site.url}dead/{position}")  # it has the cookie now
        while not evil.started:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        port = evil.servers[0].sockets[0].getsockname()[1]
        await page.goto(f"http://localhost:{port}/")
        await page.get_by_role("button", name="Win").click()
        await expect(page.locator("h1")).to_have_text("Not allowed")
    evil.should_exit = True
    await serving
    assert len(await site.web.dead_letters.list()) == 1


async def test_everything_but_live_figures_works_without_scripts(
    site: Site, chromium: Browser
) -> None:
    """Pages, search, and a redrive of a whole group after its question."""
    await fail(site, "order-1", "order-2")
    async with page_of(chromium, script=False) as watched:
        page = watched.page
        await page.goto(site.url)
        await expect(page.locator("svg.headrace-flow")).to_be_visible()
        await page.get_by_role("link", name="Dead letters").click()
        await page.get_by_role("link", name="Redrive all…").click()
        await page.get_by_role("button", name="Redrive 2 dead letters").click()
        await expect(page.get_by_role("status")).to_contain_text("2 dead letters redriven")


async def test_pages_are_read_on_a_phone_in_the_dark_and_on_a_desk(
    site: Site, chromium: Browser, tmp_path: Path
) -> None:
    """Nothing is wider than 375 pixels, dark is dark, and the pictures of the docs are of these pages."""
    for amount in range(40):
        await site.web.send(PlaceOrder(f"order-{amount}", amount))
    await fail(site, "order-1041", behind=3)
    await fail(site, "order-1057", "order-1063", "order-1071")
    await fail(site, "order-1042", "order-1088", amount=9_500)
    letter = (await site.web.dead_letters.list(group="parcels"))[0]
    pages = {
        "flow": "",
        "message": f"messages?of={letter.envelope.id}",
        "backlogs": "backlogs",
        "dead": "dead",
        "letter": f"dead/{letter.position}",
        "edit": f"dead/{letter.position}/edit",
        "audit": "audit",
    }
    of_the_docs = {"flow", "message", "backlogs", "letter", "dark", "phone"}

    def picture(name: str) -> Path:
        folder = IMAGES if PICTURES and name in of_the_docs else tmp_path
        return folder / f"dashboard-{name}.png"

    async with orders_coming_in(site.web, seconds=0.04):
        async with page_of(chromium, width=375, height=780) as watched:
            for name, path in pages.items():
                await watched.page.goto(site.url + path)
                width = await watched.page.evaluate("document.scrollingElement.scrollWidth")
                assert width <= 375, name
            await watched.page.goto(site.url + pages["letter"])
            await watched.page.screenshot(path=picture("phone"))
        async with page_of(chromium, width=1440, scheme="dark") as watched:
            await watched.page.goto(site.url)
            colour = await watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert max(int(part) for part in colour[4:-1].split(",")) < 60
            await expect(watched.page.locator("text.figure", has_text="/s").first).to_be_visible()
            await watched.page.screenshot(path=picture("dark"))
        async with page_of(chromium, width=1440) as watched:
            for name, path in pages.items():
                await watched.page.goto(site.url + path)
                if name == "flow":
                    moving = watched.page.locator("text.figure", has_text="/s")
                    await expect(moving.first).to_be_visible()
                await watched.page.screenshot(path=picture(name))
            assert not watched.complaints

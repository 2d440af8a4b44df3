"""A real browser for tests: Debian's chromium, driven by playwright; installed where that can be done."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from engines.install import install_debian
from engines.missing import EngineMissing

SECONDS = 25
"""How long a page may take: machines of CI are busy."""

expect.set_options(timeout=SECONDS * 1000)

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Servers of CI have little shared memory.
    "--disable-dev-shm-usage",
    "--font-render-hinting=none",
)


@cache
def chromium() -> str:
    """The path of the browser; the test is skipped, and named at the end of the run, if there is none."""
    found = shutil.which("chromium")
    if found is None:
        try:
            install_debian("chromium")
        except EngineMissing as missing:
            pytest.skip(f"a browser: {missing}")
        found = shutil.which("chromium")
    assert found is not None
    return found


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser of one's own."""
    path = chromium()
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield started
        finally:
            await started.close()


class Watched:
    """A page of which is kept what it loads, and what it complains of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.loaded: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.loaded.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))


@asynccontextmanager
async def page_of(
    on: Browser,
    *,
    width: int = 1280,
    height: int = 860,
    scheme: Literal["light", "dark"] = "light",
    script: bool = True,
) -> AsyncIterator[Watched]:
    """A page with nothing stored in it."""
    context = await on.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        java_script_enabled=script,
        reduced_motion="reduce",
    )
    context.set_default_timeout(SECONDS * 1000)
    try:
        yield Watched(await context.new_page())
    finally:
        await context.close()

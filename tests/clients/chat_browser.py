"""The chat of the examples in real browsers: what a person does on the page, and what is to be seen there.

The page's policy forbids `eval`, so all waiting is Playwright's own.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, ViewportSize, async_playwright, expect

from tests.e2e.chromium import chromium
from tests.e2e.stock import npm_packages

DESKTOP: Final = ViewportSize(width=1280, height=800)
PHONE: Final = ViewportSize(width=360, height=740)
WAIT_MS: Final = 20_000  # two slow cores shared with others
PICTURES: Final = "HEADGATE_PICTURES"  # a folder for the pictures; else a new one in the system's temporary folder
_CUT: Final = ("ERR_INTERNET_DISCONNECTED", "ERR_CONNECTION_", "ERR_EMPTY_RESPONSE", "ERR_NETWORK", "ERR_SOCKET")


@asynccontextmanager
async def a_browser() -> AsyncIterator[Browser]:
    """Starts Chromium."""
    path = await asyncio.to_thread(chromium)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


class ChatUser:
    """A person in front of the page, in a browser profile of his own. `faults` are errors that the page logged."""

    def __init__(self, page: Page, user: str) -> None:
        self.page = page
        self.user = user
        self.faults: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.faults.append(f"thrown: {error}"))
        page.on("console", self._console)
        page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))

    @classmethod
    async def enter(cls, browser: Browser, url: str, user: str, viewport: ViewportSize = DESKTOP, **more: Any) -> Self:
        """Opens the page in a new profile and enters by name."""
        context = await browser.new_context(viewport=viewport, has_touch=viewport["width"] < 500, **more)
        person = cls(await context.new_page(), user)
        await person.page.goto(url)
        await person.page.fill("#user", user)
        await person.page.click("#enter button")
        await person.inside()
        return person

    @classmethod
    async def with_token(cls, browser: Browser, url: str, user: str, token: str) -> Self:
        """Opens the page with a token, which no server sees."""
        context = await browser.new_context(viewport=DESKTOP)
        person = cls(await context.new_page(), user)
        await person.page.goto(f"{url}#token={token}")
        await person.inside()
        return person

    async def again(self, url: str, token: str) -> None:
        """Opens the page anew, as with another visit."""
        await self.page.goto("about:blank")
        await self.page.goto(f"{url}#token={token}")
        await self.inside()

    async def inside(self) -> None:
        """Waits until the chat is there and connected."""
        await expect(self.page.locator("#chat")).to_be_visible(timeout=WAIT_MS)
        await expect(self.page.locator("#state")).to_have_text("online", timeout=WAIT_MS)
        await expect(self.page.locator("#problem")).to_be_hidden()

    async def open(self, name: str) -> None:
        """Opens a channel or a talk of the list, by its name; joins it where it is another's."""
        if await self.page.locator("#back").is_visible():
            await self.page.click("#back")
        await self.row(name).click()
        await expect(self.page.locator("#title")).to_have_text(name, timeout=WAIT_MS)

    def row(self, name: str) -> Locator:
        """The row of the list with this name."""
        return self.page.locator("#side .row").filter(has=self.page.get_by_text(name, exact=True))

    async def create(self, name: str, *, private: bool = False) -> None:
        """Makes a channel and opens it."""
        await self.page.click("#new-channel")
        await self.page.fill("#channel-name", name)
        if private:
            await self.page.check("#create [name=private]")
        await self.page.press("#channel-name", "Enter")
        await expect(self.page.locator("#title")).to_have_text(name, timeout=WAIT_MS)

    async def say(self, text: str) -> None:
        """Sends a message from the open channel."""
        await self.page.fill("#text", text)
        await self.page.press("#text", "Enter")

    async def sees(self, text: str) -> None:
        """Waits until a message of the open channel has this text."""
        await expect(self.message(text)).to_be_visible(timeout=WAIT_MS)

    def message(self, text: str, place: str = "#messages") -> Locator:
        """The message with this text, in the channel or in the open thread."""
        texts = self.page.locator(".text").get_by_text(text, exact=True)
        return self.page.locator(f"{place} .message").filter(has=texts)

    async def act(self, text: str, action: str) -> None:
        """Opens the actions of a message and does one of them, by what stands on its button."""
        message = self.message(text)
        await message.locator(".dots").click()
        await message.locator(".actions").get_by_text(action, exact=True).click()

    async def all_messages(self) -> list[str]:
        """The texts of the open channel, as they stand on the page."""
        return await self.page.locator("#messages .message .text").all_text_contents()

    async def unread(self, name: str, count: int) -> None:
        """Waits until a row of the list shows this number, none for 0."""
        badge = self.row(name).locator(".count")
        if count:
            await expect(badge).to_have_text(f"{count} unread", timeout=WAIT_MS)
        else:
            await expect(badge).to_have_count(0, timeout=WAIT_MS)

    async def picture(self, name: str) -> None:
        """Saves what is to be seen."""
        await self.page.screenshot(path=pictures() / f"{name}.png")

    async def serious(self) -> list[str]:
        """Returns what axe finds that is serious or critical, one line each."""
        source = await asyncio.to_thread(axe)
        await self.page.evaluate(source)
        found = await self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']} ({one['impact']}): {node['html'][:200]} {node['failureSummary'][:300]}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    async def overflow(self) -> list[str]:
        """Returns what would have to be scrolled sideways, and controls that are beyond the edge."""
        found: list[str] = await self.page.evaluate(
            """() => [...document.querySelectorAll("html, body, .scroll, main, aside, nav, button, input, textarea")]
              .filter((one) => one.checkVisibility() && (one.getBoundingClientRect().right > innerWidth + 1
                || (!one.matches("button, input, textarea") && one.scrollWidth > one.clientWidth + 1)))
              .map((one) => `${one.tagName}#${one.id}.${one.className} ${one.getBoundingClientRect().right}`)"""
        )
        return found

    def _console(self, message: ConsoleMessage) -> None:
        lost = any(word in message.text for word in _CUT)
        if message.type == "error" and not lost:
            self.faults.append(f"{message.text} {message.location}")


def axe() -> str:
    """Returns the source of axe-core, of the lock file's version."""
    return (npm_packages() / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


def pictures() -> Path:
    """Returns the folder of the pictures."""
    folder = Path(os.environ.get(PICTURES) or Path(tempfile.gettempdir()) / "headgate-pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder

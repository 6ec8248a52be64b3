"""The chat full of texts that a careless page would run, break on, or be fooled by: nothing happens."""

import json
import re
from urllib.parse import quote

import httpx
from playwright.async_api import Browser, Request, expect

from tests.clients.chat_browser import DESKTOP, PHONE, WAIT_MS, ChatUser
from tests.clients.hostile_texts import MARKUP, TEXTS, as_name
from tests.vectors.served import Served

ON_PAGE = {
    "LI", "P", "BDI", "TIME", "SPAN", "DIV", "BUTTON", "TEXTAREA",
}  # fmt: skip
ATTRIBUTES = re.compile(r"class|data-(id|do)|dir|title|datetime|aria-[a-z]+|tabindex|role|rows|maxlength|disabled")


async def test_no_text_from_the_network_does_anything(demo: Served, browser: Browser) -> None:
    room = f"{MARKUP[1]} room"
    _fill(demo.url, room)
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    for user, size in (("ann", DESKTOP), (as_name(MARKUP[1], 60), PHONE)):
        person = await ChatUser.enter(browser, demo.url, user, size)
        person.page.on("request", note)
        await person.row(room).click()
        await person.page.wait_for_selector("#messages .message")
        await _look_at_all(person)
        shown = await person.all_messages()
        assert all(any(text[:500] in line for line in shown) for text in MARKUP)
        await person.picture(f"hostile-{size['width']}")
        assert await _strange(person) == []
        assert await person.overflow() == []
        assert await person.serious() == []
        await person.page.click("#show-people")
        assert await person.overflow() == []
        assert person.faults == []
    assert [url for url in asked if not url.startswith(demo.url) or url.endswith("/ran")] == []


def _fill(url: str, room: str) -> None:
    """Makes a channel of this name, and in it every hostile text as a message, a name, a reaction and a reply."""
    path = "/api/v1/topics/chat.hostile"
    with httpx.Client(base_url=url, trust_env=False) as http:
        made = {"topic_id": "chat.hostile", "name": room, "settings": {"presence": "list"}}
        assert http.post("/api/v1/topics", json=made, params={"user": "eve"}).status_code == 201
        for number, text in enumerate(TEXTS):
            user = as_name(text, 60).encode("utf-8")[:120].decode("utf-8", "ignore")
            other = {"topic_id": f"chat.hostile-{number}", "name": text[:256]}
            assert http.post("/api/v1/topics", json=other, params={"user": user}).status_code == 201, other
            for payload in ({"text": text}, {"text": {"html": text}}, text, [text], {"__proto__": {"text": text}}):
                query = {"user": user, "wait": "sequenced"}
                sent = http.post(f"{path}/publish", json={"payload": payload}, params=query)
                assert sent.status_code == 200, sent.text
            message_id = sent.json()["message_id"]
            reaction = f"{path}/messages/{message_id}/reactions/{quote(as_name(text, 30), safe='')}"
            assert http.put(reaction, params={"user": user}).status_code == 204
            reply = {"payload": {"text": text}, "parent_message_id": message_id}
            assert http.post(f"{path}/publish", json=reply, params={"user": user}).status_code == 200


async def _look_at_all(person: ChatUser) -> None:
    """Loads every message, and opens every thread."""
    page = person.page
    while await page.locator("#earlier").is_visible():
        before = await page.locator("#messages .message").count()
        await page.click("#earlier")
        await expect(page.locator("#messages .message")).not_to_have_count(before, timeout=WAIT_MS)
    for button in await page.locator("#messages [data-do=replies]").all():
        await button.click()
        await page.click("#close-thread")


async def _strange(person: ChatUser) -> list[str]:
    """Returns the elements that are not of the page's own making, and attributes that would do something."""
    made: list[tuple[str, list[str]]] = await person.page.evaluate(
        """() => [...document.querySelectorAll("#messages *, #side ul *, #here *, #members *, #title *")].map(
          (one) => [one.tagName, one.getAttributeNames()])"""
    )
    return [
        json.dumps([tag, names])
        for tag, names in made
        if tag not in ON_PAGE or not all(ATTRIBUTES.fullmatch(name) for name in names)
    ]

"""The chat that `headgate dev --demo` serves, in real browsers: two people, two devices, offline and back."""

import re
from contextlib import AsyncExitStack

import httpx
import pytest
from playwright.async_api import Browser, Route, expect

from headgate.cli.main import main
from tests.clients.chat_browser import PHONE, WAIT_MS, ChatUser
from tests.clients.javascript import CLIENT
from tests.e2e.harness import SECRET, token
from tests.e2e.stock import CutPath
from tests.vectors.served import ROOT, Served


@pytest.mark.usefixtures("built")
def test_the_client_beside_the_page_is_the_one_that_is_built() -> None:
    built = (CLIENT / "dist" / "headgate-client.min.js").read_bytes()
    beside = (ROOT / "examples" / "chat" / "headgate-client.min.js").read_bytes()
    assert beside == built, "cp clients/js/dist/headgate-client.min.js examples/chat/"


def test_the_port_serves_the_page_and_nothing_beside_it(demo: Served) -> None:
    with httpx.Client(base_url=demo.url, trust_env=False) as http:
        page = http.get("/")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert (
            page.headers["x-content-type-options"] == "nosniff"
            and "script-src 'self'" in (page.headers["content-security-policy"])
        )
        for name in re.findall(r'(?:href|src)="([^"#]+)"', page.text):
            head = http.head(f"/{name}")
            assert head.status_code == 200 and head.content == b"" and int(head.headers["content-length"]) > 0
        for other in ("/README.md", "/index.html", "/examples/chat/chat.js", "/%2e%2e/pyproject.toml"):
            assert http.get(other).json()["code"] == "not_found"
        assert http.post("/", content=b"x").status_code == 405
        assert http.get("/", headers={"Host": "evil.test"}).json()["code"] == "misdirected"
        assert http.get("/api/v1/topics").status_code == 200
    assert f"Chat       {demo.url}/" in demo.said()


def test_without_the_flag_there_is_no_page(served: Served) -> None:
    assert httpx.get(served.url, trust_env=False).status_code == 404


@pytest.mark.parametrize("role", ["ingest", "dispatcher", "gateway", "init"])
def test_no_other_role_has_the_page(role: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([role, "--demo"]) == 2
    assert "unknown flag --demo" in capsys.readouterr().err


async def test_two_people_talk_and_see_the_same(demo: Served, browser: Browser) -> None:
    ann = await ChatUser.enter(browser, demo.url, "ann")
    bob = await ChatUser.enter(browser, demo.url, "bob", color_scheme="dark")
    for number in range(3):
        await ann.say(f"from ann {number}")
        await bob.sees(f"from ann {number}")
        await bob.say(f"from bob {number}")
        await ann.sees(f"from bob {number}")
    assert await ann.all_messages() == await bob.all_messages()
    await expect(bob.message("from bob 2")).to_contain_text("Seen by ann", timeout=WAIT_MS)
    await expect(ann.page.locator("#about")).to_have_text("2 here, 2 members", timeout=WAIT_MS)
    await bob.page.locator("#text").press_sequentially("a long text", delay=200)
    await expect(ann.page.locator("#typing")).to_have_text("bob is typing …", timeout=WAIT_MS)
    await ann.page.click("#show-people")
    await expect(ann.page.locator("#here .row")).to_have_text(["annyou", "bob"], timeout=WAIT_MS)
    await ann.picture("two-light")
    await bob.picture("two-dark")
    await bob.page.context.close()
    await expect(ann.page.locator("#members .row")).to_have_text(["boboffline"], timeout=WAIT_MS)
    assert ann.faults == [] and bob.faults == []


async def test_a_message_that_is_back_before_its_answer_is_shown_once(demo: Served, browser: Browser) -> None:
    ann = await ChatUser.enter(browser, demo.url, "ann")
    shown: list[list[str]] = []

    async def late(route: Route) -> None:
        answer = await route.fetch()
        await expect(ann.page.locator("#messages .message:not(.pending)")).to_have_count(1, timeout=WAIT_MS)
        shown.append(await ann.all_messages())
        await route.fulfill(response=answer)

    await ann.page.route("**/publish?*", late)
    await ann.say("once")
    await ann.sees("once")
    await ann.page.unroute_all(behavior="wait")
    shown.append(await ann.all_messages())
    assert shown == [["once"], ["once"]]


async def test_a_message_is_edited_reacted_to_answered_and_deleted(demo: Served, browser: Browser) -> None:
    ann = await ChatUser.enter(browser, demo.url, "ann")
    bob = await ChatUser.enter(browser, demo.url, "bob")
    await ann.say("frist")
    await bob.sees("frist")
    await bob.act("frist", "👍")
    await expect(ann.message("frist").locator(".chip")).to_have_text("👍 1", timeout=WAIT_MS)
    await expect(bob.message("frist").locator(".chip")).to_have_attribute("aria-pressed", "true")
    await ann.act("frist", "Edit")
    await ann.page.fill(".editor textarea", "first")
    await ann.picture("editing")
    await ann.page.press(".editor textarea", "Enter")
    await bob.sees("first")
    await expect(bob.message("first").get_by_text("edited")).to_be_visible()
    await bob.act("first", "Reply")
    await bob.page.fill("#reply-text", "an answer")
    await bob.page.press("#reply-text", "Enter")
    await ann.message("first").get_by_text("1 reply").click(timeout=WAIT_MS)
    await expect(ann.message("an answer", "#thread-messages")).to_be_visible(timeout=WAIT_MS)
    await ann.picture("thread")
    await expect(ann.message("an answer")).to_have_count(0)
    await bob.message("first").locator(".chip", has_text="👍").click()
    await expect(ann.message("first").locator(".chip", has_text="👍")).to_have_count(0, timeout=WAIT_MS)
    await ann.act("first", "Delete")
    await ann.page.click("#sure-yes")
    await bob.sees("This message was deleted.")
    await bob.page.reload()
    await bob.inside()
    await bob.sees("This message was deleted.")
    assert ann.faults == [] and bob.faults == []


async def test_channels_are_made_joined_and_left_and_a_private_one_is_for_members(browser: Browser) -> None:
    with Served("--demo", "--auth.secret", SECRET) as demo:
        ann = await ChatUser.with_token(browser, demo.url, "ann", token("ann"))
        bob = await ChatUser.with_token(browser, demo.url, "bob", token("bob"))
        await _private(ann, bob, demo.url)


async def _private(ann: ChatUser, bob: ChatUser, url: str) -> None:
    await ann.create("Plans")
    await ann.create("Secret", private=True)
    await ann.say("only for members")
    await ann.sees("only for members")
    await bob.again(url, token("bob"))
    await expect(bob.row("Plans").locator(".note")).to_have_text("join")
    await expect(bob.row("Secret")).to_have_count(0)
    await bob.open("Plans")
    await expect(bob.row("Plans").locator(".note")).to_have_count(0, timeout=WAIT_MS)
    await ann.page.click("#show-people")
    await ann.page.fill("#member", "bob")
    await ann.page.press("#member", "Enter")
    await expect(ann.page.locator("#about")).to_contain_text("2 members", timeout=WAIT_MS)
    await bob.again(url, token("bob"))
    await bob.open("Secret")
    await bob.sees("only for members")
    await bob.page.click("#show-people")
    await bob.page.click("#leave")
    await bob.picture("leaving")
    await bob.page.click("#sure-yes")
    await expect(bob.row("Secret")).to_have_count(0, timeout=WAIT_MS)
    assert ann.faults == [] and bob.faults == []


async def test_a_direct_talk_appears_at_the_other_end(demo: Served, browser: Browser) -> None:
    ann = await ChatUser.enter(browser, demo.url, "ann")
    bob = await ChatUser.enter(browser, demo.url, "bob")
    await ann.page.click("#new-talk")
    await ann.page.fill("#talk-user", "bob")
    await ann.page.press("#talk-user", "Enter")
    await expect(ann.page.locator("#title")).to_have_text("bob", timeout=WAIT_MS)
    await ann.say("between us")
    await bob.unread("ann", 1)
    await bob.open("ann")
    await bob.sees("between us")
    await bob.unread("ann", 0)
    assert ann.faults == [] and bob.faults == []


async def test_one_goes_offline_writes_and_comes_back_and_both_have_the_same(demo: Served, browser: Browser) -> None:
    async with AsyncExitStack() as stack:
        path = await stack.enter_async_context(CutPath(demo.port))
        ann = await ChatUser.enter(browser, f"http://127.0.0.1:{path.port}", "ann")
        bob = await ChatUser.enter(browser, demo.url, "bob")
        await ann.say("before")
        await bob.sees("before")
        await ann.page.context.set_offline(True)
        path.cut()
        await expect(ann.page.locator("#notice")).to_have_text(re.compile("You are offline"), timeout=WAIT_MS)
        await expect(ann.page.locator("#state")).to_have_text("offline")
        for number in range(3):
            await ann.say(f"written offline {number}")
            await bob.say(f"meanwhile {number}")
        await expect(ann.message("written offline 2").get_by_text("waiting to be sent")).to_be_visible()
        await bob.sees("meanwhile 2")
        assert not any("offline" in text for text in await bob.all_messages())
        await ann.picture("offline")
        await ann.page.context.set_offline(False)
        await bob.sees("written offline 2")
        await ann.sees("meanwhile 2")
        await expect(ann.page.locator("#notice")).to_be_hidden(timeout=WAIT_MS)
        await expect(ann.page.locator("#messages .pending")).to_have_count(0, timeout=WAIT_MS)
        assert await ann.all_messages() == await bob.all_messages()
        assert len(await ann.all_messages()) == 7
        assert ann.faults == [] and bob.faults == []


async def test_what_is_unread_is_the_same_on_two_devices(demo: Served, browser: Browser) -> None:
    desk = await ChatUser.enter(browser, demo.url, "ann")
    await desk.create("News")
    await desk.open("general")
    phone = await ChatUser.enter(browser, demo.url, "ann", PHONE)
    bob = await ChatUser.enter(browser, demo.url, "bob")
    await bob.open("News")
    for number in range(3):
        await bob.say(f"news {number}")
    await desk.unread("News", 3)
    await phone.unread("News", 3)
    await expect(desk.page).to_have_title("(3) Headgate chat")
    await phone.picture("unread-phone")
    await phone.open("News")
    await phone.sees("news 2")
    await expect(phone.page.locator(".new-line")).to_have_count(1)
    await phone.picture("new-line-phone")
    await desk.unread("News", 0)
    await phone.unread("News", 0)
    await phone.page.click("#back")
    await bob.say("one more")
    await desk.unread("News", 1)
    await phone.unread("News", 1)
    await desk.open("News")
    await desk.sees("one more")
    await phone.unread("News", 0)
    await phone.page.reload()
    await phone.inside()
    await phone.unread("News", 0)
    assert desk.faults == [] and phone.faults == [] and bob.faults == []


async def test_a_chat_that_needs_a_token_asks_for_one(browser: Browser) -> None:
    with Served("--demo", "--auth.secret", SECRET) as demo:
        mine = token("ann")
        page = await browser.new_page()
        person = ChatUser(page, "ann")
        await page.goto(demo.url)
        await expect(page.locator("#by-name")).to_be_hidden(timeout=WAIT_MS)
        await page.fill("#token", "wrong")
        await page.click("#enter button")
        await expect(page.locator("#door-problem")).not_to_be_empty(timeout=WAIT_MS)
        await page.fill("#token", mine)
        await page.click("#enter button")
        await person.inside()
        await expect(page.locator("#me")).to_have_text("ann")
        stored = await page.evaluate("() => JSON.stringify([{...localStorage}, {...sessionStorage}, location.href])")
        assert mine not in stored

"""The chat is for everybody: axe finds nothing serious, the keyboard is enough, new messages are announced."""

from playwright.async_api import Browser, expect

from tests.clients.chat_browser import DESKTOP, PHONE, WAIT_MS, ChatUser
from tests.vectors.served import Served


async def test_axe_finds_nothing_serious_in_light_and_dark_on_desk_and_phone(demo: Served, browser: Browser) -> None:
    for scheme in ("light", "dark"):
        for size in (DESKTOP, PHONE):
            name = f"{'phone' if size is PHONE else 'desk'}-{scheme}"
            context = await browser.new_context(viewport=size, color_scheme=scheme)
            door = ChatUser(await context.new_page(), "")
            await door.page.goto(demo.url)
            await door.page.wait_for_selector("#user")
            await door.picture(f"door-{name}")
            found = {"door": await door.serious()}
            await context.close()
            person = await ChatUser.enter(browser, demo.url, f"user-{name}", size, color_scheme=scheme)
            found["list"] = await person.serious()
            await person.picture(f"list-{name}")
            await person.open("general")
            await person.say("Good morning! The release notes are in the wiki, with all figures of the last runs.")
            noon = f"I shall answer questions here until noon, {name}."
            await person.say(noon)
            await person.sees(noon)
            await person.act(noon, "🎉")
            await person.message(noon).locator(".dots").click()
            found["room"] = await person.serious()
            await person.picture(f"room-{name}")
            await person.page.locator("#messages .actions [data-do=reply]").click()
            found["thread"] = await person.serious()
            await person.picture(f"thread-{name}")
            await person.page.click("#close-thread")
            await person.page.click("#show-people")
            found["people"] = await person.serious()
            await person.picture(f"people-{name}")
            assert await person.overflow() == []
            await person.page.click("#close-people")
            if size is DESKTOP:
                await person.page.click("#new-channel")
                found["dialog"] = await person.serious()
                await person.picture(f"dialog-{name}")
            assert {place: lines for place, lines in found.items() if lines} == {}, name
            assert person.faults == []


async def test_the_keyboard_alone_is_enough_and_shows_where_it_is(demo: Served, browser: Browser) -> None:
    bob = await ChatUser.enter(browser, demo.url, "bob")
    await bob.say("first")
    await bob.say("second")
    context = await browser.new_context(viewport=DESKTOP)
    ann = ChatUser(await context.new_page(), "ann")
    await ann.page.goto(demo.url)
    keys = ann.page.keyboard
    await expect(ann.page.locator("#user")).to_be_focused(timeout=WAIT_MS)
    await keys.type("ann")
    await keys.press("Enter")
    await ann.inside()
    await expect(ann.page.locator("#text")).to_be_focused(timeout=WAIT_MS)
    await keys.type("by keyboard")
    await keys.press("Enter")
    await ann.sees("by keyboard")
    await keys.press("Shift+Tab")
    await expect(ann.page.locator(".dots:focus")).to_have_attribute("aria-label", "Actions for the message of ann")
    for _ in range(2):
        await keys.press("ArrowUp")
    await keys.press("Enter")
    focused = ann.page.locator(":focus")
    await expect(focused).to_have_attribute("aria-expanded", "true")
    seen = []
    for _ in range(40):
        await keys.press("Shift+Tab")
        seen.append(await ann.page.evaluate(
            """() => { const one = document.activeElement, look = getComputedStyle(one);
              return [one.id || one.dataset.do || one.tagName, look.outlineStyle, parseFloat(look.outlineWidth)] }"""
        ))  # fmt: skip
    assert {"🎉", "reply", "log", "show-people", "chat.general", "new-channel", "new-talk", "sign-out"} <= {
        name for name, *_ in seen
    }
    assert [one for one in seen if one[0] != "BODY" and (one[1] == "none" or one[2] < 2)] == []
    assert ann.faults == [] and bob.faults == []


async def test_new_messages_are_announced_and_old_ones_are_not(demo: Served, browser: Browser) -> None:
    ann = await ChatUser.enter(browser, demo.url, "ann")
    await ann.say("old")
    await ann.sees("old")
    bob = await ChatUser.enter(browser, demo.url, "bob")
    await bob.sees("old")
    await ann.say("new")
    live = bob.page.locator("#announce[aria-live=polite]")
    await expect(live).to_have_text("ann: new", timeout=WAIT_MS)
    assert await bob.page.locator("#log").get_attribute("aria-live") == "off"

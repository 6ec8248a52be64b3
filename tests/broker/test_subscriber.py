"""The helper for idempotent handlers, plain and async."""

import pytest

from headgate.broker import Message, Status, idempotent


def message(message_id: int, topic: str = "orders") -> Message:
    return Message(message_id, topic, message_id, Status.DELIVERING, 1, 0.0, 0.0)


def test_a_repeat_of_a_success_is_swallowed_a_repeat_of_a_failure_is_not() -> None:
    seen: list[tuple[str, int]] = []
    fail = [True]

    def handle(given: Message) -> str:
        """The handler's own words."""
        if fail.pop() if fail else False:
            raise ValueError
        seen.append((given.topic, given.id))
        return "done"

    wrapped = idempotent(handle)
    assert wrapped.__name__ == "handle"
    with pytest.raises(ValueError):
        wrapped(message(1))
    assert [wrapped(message(1)), wrapped(message(1)), wrapped(message(1, "other"))] == ["done", None, "done"]
    assert seen == [("orders", 1), ("other", 1)]


async def test_an_async_handler_is_done_when_it_was_awaited() -> None:
    seen: list[int] = []
    fail = [True]

    async def handle(given: Message) -> None:
        if fail and fail.pop():
            raise ValueError
        seen.append(given.id)

    wrapped = idempotent(handle)
    with pytest.raises(ValueError):
        await wrapped(message(1))
    await wrapped(message(1))
    assert wrapped(message(1)) is None
    assert seen == [1]


def test_the_memory_is_bounded() -> None:
    seen: list[int] = []
    wrapped = idempotent(lambda given: seen.append(given.id), remember=2)
    for message_id in (1, 2, 3, 3, 2, 1):
        wrapped(message(message_id))
    assert seen == [1, 2, 3, 1]

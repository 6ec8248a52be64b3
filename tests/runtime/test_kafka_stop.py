"""A client is stopped for certain, and nothing that aiokafka cancels on the way looks like a cancellation of ours."""

import asyncio

import pytest

from headgate.runtime.logs import kafka_stop


class Connections:
    """The connections of a client: closing waits for their end, as over TLS for the broker's last word."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1
        await asyncio.gather(self.ended)


class Client:
    def __init__(self) -> None:
        self.client = Connections()

    async def stop(self) -> None:
        await self.client.close()


async def test_a_connection_that_does_not_end_is_given_up_and_the_caller_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_stop, "STOP_S", 0.05)
    client = Client()
    async with asyncio.timeout(5):
        await kafka_stop.stopped(client)
    assert client.client.closed == 2
    assert client.client.ended.cancelled()


async def test_a_cancellation_of_the_caller_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_stop, "STOP_S", 60.0)
    stopping = asyncio.create_task(kafka_stop.stopped(Client()))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping

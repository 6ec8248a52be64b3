"""A dispatcher's index folder on a file system that fills up, with separate processes on Kafka: delivery goes on, and
with room again everything that was acknowledged meanwhile is in history and can be resumed, also after a restart."""

import shutil
import subprocess
from contextlib import AsyncExitStack

import msgspec
import pytest

from tests.e2e import ledger
from tests.e2e.clients import Publisher, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Stage, at_most, token, until
from tests.e2e.http import Http

BEFORE, WHILE_FULL = 100, 400
TOPIC = "kept"
TEXT = "x" * 10_000


async def test_what_was_acknowledged_while_the_index_disk_was_full_is_in_history_afterwards(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix)
    (dispatcher,) = deployment.dispatchers
    folder = deployment.index(dispatcher)
    folder.mkdir(parents=True)
    mount = shutil.which("mount")
    size = ["-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if mount is None or subprocess.run([mount, *size], check=False).returncode:
        pytest.skip("this test mounts a small file system, which is not permitted here")
    try:
        await deployment.start(4)
        async with AsyncExitStack() as stack:
            bearer = token("p", service=True)
            publisher = await stack.enter_async_context(Publisher(deployment.ingests[0].url, bearer))
            await publisher.create(TOPIC)
            live = Subscriber("live", [deployment.gateways[0].url], [TOPIC], token=token("s"))
            await stack.enter_async_context(live)
            await until("the subscription is granted", lambda: live.connected, 20)
            sent = await _publish(publisher, 0, BEFORE)
            sent += await _publish(publisher, BEFORE, WHILE_FULL)
            await at_most(10, lambda: live.count >= len(sent))
            ledger.complete(TOPIC, "live", live.messages[TOPIC], sent)
            without = (await dispatcher.metrics())["headgate_shards_without_index{}"]
            assert without >= 1, "the other shards lose theirs too where they have something to note meanwhile"
            async with Http(dispatcher.admin) as http:
                ready = await http.request("GET", "/readyz")
            assert b"the index file" in ready.body and b"live delivery goes on" in ready.body
            page = await publisher.call("GET", f"/api/v1/topics/{TOPIC}/messages", limit=10)
            assert page.status == 200 and page.body["complete"] is False
            gone = await publisher.call("GET", f"/api/v1/topics/{TOPIC}/messages", after_seq=5, limit=10)
            assert gone.status == 200, "what the log holds is never gone"

            subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
            healed = await until("the dispatcher is ready again", lambda: _is_ready(dispatcher.admin), 60, 0.2)
            await _check_all(publisher, deployment, sent, stack)
            dispatcher.kill9()
            dispatcher.start()
            await dispatcher.ready()
            await _check_all(publisher, deployment, sent, stack)
    finally:
        dispatcher.kill9()
        subprocess.run(["umount", "-l", str(folder)], check=True)
    figures.say(
        f"{len(sent)} messages of 10 KB with an index disk of 4 MB, all 200 and delivered live; ready {healed:.1f} s "
        "after there was room again; history and a resume give all of them, after a kill -9 too"
    )


async def _publish(publisher: Publisher, start: int, count: int) -> list[bytes]:
    payloads = [{"number": n, "text": TEXT} for n in range(start, start + count)]
    for payload in payloads:
        answer = await publisher.call("POST", f"/api/v1/topics/{TOPIC}/publish", {"payload": payload})
        assert answer.status == 200, answer
    return [msgspec.json.encode(payload) for payload in payloads]


async def _is_ready(admin: str) -> bool:
    async with Http(admin) as http:
        return (await http.request("GET", "/readyz")).status == 200


async def _check_all(publisher: Publisher, deployment: Deployment, sent: list[bytes], stack: AsyncExitStack) -> None:
    history = await publisher.history(TOPIC)
    ledger.dense(TOPIC, [m["seq"] for m in history])
    assert [msgspec.json.encode(m["payload"]) for m in history] == sent
    urls = [deployment.gateways[0].url]
    late = Subscriber("late", urls, [TOPIC], token=token("s"), start={"seq": 10})
    await stack.enter_async_context(late)
    await until("all that follows is there", lambda: late.count >= len(sent) - 10, 30)
    ledger.complete(TOPIC, "late", late.messages[TOPIC], sent[10:], 11)
    assert all(frame["resumed"] for frame in late.of_type("subscribed")) and not late.of_type("gap")

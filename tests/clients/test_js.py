"""The JavaScript client: its own tests, the protocol vectors, and faults after which all came once and in order."""

import asyncio
import gzip
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.clients.javascript import CLIENT, Application, RandomCuts, node, npm, numbered, packed
from tests.docs.commands import Shell, blocks
from tests.docs.commands import until as line_of
from tests.e2e import ledger
from tests.e2e.clients import Publisher
from tests.e2e.conftest import Figures
from tests.e2e.harness import SECRET, Deployment, Role, Stage, token, until
from tests.e2e.stock import CutPath
from tests.e2e.traffic import Traffic
from tests.vectors.served import Served
from tests.vectors.tokens import SECRET as VECTOR_SECRET

VECTORS = Path(__file__).parents[1] / "vectors"
TOPICS = ["room.a", "room.b", "room.c", "room.d"]
FOLLOW = """
import { Headgate } from "headgate-client";
const headgate = new Headgate({ url: "URL", user: "empty" });
await headgate.publish("empty.js", { text: "hello" });
for await (const { seq, payload } of headgate.subscribe("empty.js", { from: "earliest" })) {
  console.log(seq, payload);
  break;
}
headgate.close();
"""
QUICK = {"firstDelayMs": 500, "maxDelayMs": 2_000, "quietMs": 1_500, "pongMs": 1_000, "connectMs": 3_000}


pytestmark = pytest.mark.usefixtures("built")


def test_the_clients_own_tests_pass() -> None:
    said = npm("test")
    assert "# fail 0" in said or "fail 0" in said


def test_the_package_installs_and_runs_in_an_empty_folder(served: Served, tmp_path: Path, figures: Figures) -> None:
    with packed(tmp_path) as home:
        code = "import { Headgate } from 'headgate-client'; import * as min from 'headgate-client/min'; "
        code += "console.log(typeof Headgate, typeof min.Headgate)"
        done = subprocess.run([node(), "--input-type=module", "-e", code], cwd=home, capture_output=True, check=True)
        assert done.stdout == b"function function\n"
        files = {path.name for path in (home / "node_modules" / "headgate-client" / "dist").iterdir()}
        modules = {path.stem for path in (CLIENT / "src").iterdir()}
        assert files == {f"{name}{end}" for name in modules for end in (".js", ".d.ts")} | {"headgate-client.min.js"}
        package = home / "node_modules" / "headgate-client"
        assert {path.name for path in package.iterdir()} == {"dist", "package.json", "README.md", "LICENSE"}
        said = json.loads((package / "package.json").read_text("utf-8"))
        assert (said["license"], said["engines"], said["type"]) == ("Apache-2.0", {"node": ">=20"}, "module")
        follow = FOLLOW.replace("URL", served.url)
        done = subprocess.run([node(), "--input-type=module", "-e", follow], cwd=home, capture_output=True, check=True)
        assert done.stdout == b"1 { text: 'hello' }\n"
        small = gzip.compress((package / "dist" / "headgate-client.min.js").read_bytes(), 9)
        (archive,) = tmp_path.glob("headgate-client-*.tgz")
        sizes = f"archive {archive.stat().st_size:,} bytes, minified and gzipped {len(small):,} bytes"
        figures.say(f"headgate-client for npm: {sizes}")
        (home / "consumer.ts").write_bytes((CLIENT / "test" / "served" / "consumer.ts").read_bytes())
        checker = str(CLIENT / "node_modules" / "typescript" / "bin" / "tsc")
        options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--types", ""]
        command = [node(), checker, *options, "--lib", "es2022,dom,dom.asynciterable", "consumer.ts"]
        done = subprocess.run(command, cwd=home, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout


def test_the_client_of_the_browser_page_follows_and_publishes(served: Served, tmp_path: Path) -> None:
    follow, publish = blocks("docs/how-to/browser.md", "js")[:2]
    with _page(tmp_path / "page.js", Shell(served).here(follow + publish)) as page:
        lines = sorted(line_of(page, "{ text: 'hi' }") for _ in range(3))  # answer and message come in any order
    seq = lines[0].split()[0]
    told = [f"{seq} {{ text: 'hi' }}", "pending { text: 'hi' } undefined", f"published {{ text: 'hi' }} {seq}"]
    assert [line.rstrip() for line in lines] == told


def test_the_react_page_of_fifteen_lines_shows_the_messages(served: Served, tmp_path: Path) -> None:
    (code,) = blocks("docs/how-to/browser.md", "jsx")
    assert len(code.splitlines()) == 15
    curl = next(block for block in blocks("README.md") if "publish" in block and "curl" in block)
    shell = Shell(served)
    shell.run(curl)
    with _page(tmp_path / "page.jsx", shell.here(code)) as page:
        line_of(page, "hello")
        shell.run(curl)
        line_of(page, "hellohello")


def test_the_vectors_of_the_protocol_hold_through_the_client(served: Served) -> None:
    flags = json.loads((VECTORS / "servers.json").read_text("utf-8"))["jwt"]  # other servers differ in limits and times
    with Served(*(flag.replace("${secret}", VECTOR_SECRET) for flag in flags)) as jwt:
        servers = (f"open={served.url}", f"jwt={jwt.url}")
        command = [node(), "test/served/vectors.mjs", str(VECTORS / "data"), *servers]
        done = subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, check=True, timeout=100)
    told = json.loads(done.stdout)
    assert told["failed"] == {}
    assert told["ran"] > 190, f"left out: {told['left_out']}"


async def test_a_token_that_expires_again_and_again_is_refreshed_and_nothing_is_lost(stage: Stage) -> None:
    dev = stage.dev(auth__secret=SECRET).start()
    await dev.ready()
    orders = {
        "url": dev.url, "topics": ["room"], "clients": 3, "secret": SECRET, "token_life_s": 1,
        "publish": {"topic": "room", "count": 75, "every_ms": 100},
    }  # fmt: skip
    async with await Application.run(orders) as application:
        await until("all is given", lambda: application.counts["message"] >= 3 * 75, 40)
        _once_in_order(application, {"room": [numbered({"number": number}) for number in range(75)]}, 3)
        assert application.counts["minted"] >= 3 * 2
        assert [line for line in application.of("state") if line["state"] == "waiting"] == [], (
            "refreshed before the end"
        )


async def test_each_message_once_in_order_through_a_proxy_that_cuts_and_a_server_that_dies(
    stage: Stage, figures: Figures
) -> None:
    dev = stage.dev(data=True).start()
    await dev.ready()
    async with AsyncExitStack() as stack:
        path = await stack.enter_async_context(CutPath(dev.port))
        url = f"http://127.0.0.1:{path.port}"
        common = {"url": url, "topics": TOPICS, "options": QUICK, "module": "../../dist/headgate-client.min.js"}
        sockets = await stack.enter_async_context(await Application.run({**common, "name": "ws", "clients": 10}))
        streams = await stack.enter_async_context(
            await Application.run({**common, "name": "sse", "clients": 4, "transport": "sse"})
        )
        writers = [
            await stack.enter_async_context(
                await Application.run(
                    {
                        **common, "name": f"writer-{topic}", "topics": [],
                        "publish": {"topic": topic, "count": 200, "every_ms": 25},
                    }
                )
            )
            for topic in TOPICS
        ]  # fmt: skip
        async with RandomCuts(path, seed=15) as cuts:
            await _flows(sockets)
            await _flows(streams)
            dev.kill9()
            dev.start()
            await dev.ready()
            await _flows(sockets)
            dev.signal(signal.SIGSTOP)
            await asyncio.sleep(4)  # longer than the clients wait for an answer
            dev.signal(signal.SIGCONT)
            await _flows(sockets)
            await until("all is published", lambda: all(w.counts["published"] == 200 for w in writers), 60)
        total = 200 * len(TOPICS)
        await until("every socket has all", lambda: sockets.counts["message"] >= 10 * total, 30)
        await until("every stream has all", lambda: streams.counts["message"] >= 4 * total, 30)
        await asyncio.sleep(0.5)  # what came twice would come now
        sent = [numbered({"number": number}) for number in range(200)]
        for application, clients in ((sockets, 10), (streams, 4)):
            _once_in_order(application, {topic: sent for topic in TOPICS}, clients)
        for writer in writers:
            seqs = [line["seq"] for line in writer.of("published")]
            assert seqs == list(range(1, 201)), "one client_msg_id, one seq, in the order of publishing"
        lost = len([line for line in sockets.of("state") if line["state"] == "waiting"])
        assert lost > 10
    figures.say(
        f"{cuts.cuts} connections cut at random, kill -9 and 4 s frozen of dev: {lost} lost connections of "
        f"10 WebSocket clients, {total} messages once and in order at each, and at 4 clients of event streams"
    )


async def test_acknowledged_messages_are_handled_once_through_failures_cuts_and_a_kill(
    stage: Stage, figures: Figures
) -> None:
    dev = stage.dev(data=True).start()
    await dev.ready()
    async with AsyncExitStack() as opened, CutPath(dev.port) as path:
        retry = {"kind": "fixed", "first_ms": 300, "max_ms": 300, "jitter": 0, "max_attempts": 50}
        topic = {"name": "n", "topic_id": "work", "settings": {"retry": retry}}
        async with httpx.AsyncClient(base_url=dev.url, trust_env=False) as http:
            made = await http.post("/api/v1/topics", json=topic)
        if made.status_code == 400:
            pytest.skip("this server does not serve acknowledged subscriptions")
        assert made.status_code == 201
        common = {"url": f"http://127.0.0.1:{path.port}", "options": QUICK}
        orders = {**common, "topics": ["work"], "clients": 3, "ack": "auto", "from": "cursor", "fail_every": 7}
        workers = await opened.enter_async_context(await Application.run(orders))
        await until("all follow", lambda: workers.counts["subscribed"] >= 3, 20)
        publish = {"topic": "work", "count": 200, "every_ms": 25}
        writer = await opened.enter_async_context(
            await Application.run({**common, "name": "writer", "publish": publish})
        )
        async with RandomCuts(path, seed=29) as cuts:
            await _flows(workers, 3)
            dev.kill9()
            await _back(dev)
            await until("all is published", lambda: writer.counts["published"] == 200, 60)
        await until("all is handled", lambda: workers.counts["message"] >= 3 * 200, 60)
        await asyncio.sleep(1)  # what came twice would come now
        for messages in workers.seen()["work"].values():
            assert sorted(message.seq for message in messages) == list(range(1, 201)), "each handled once"
    figures.say(
        f"{cuts.cuts} cuts and a kill -9: 200 messages handled once by each of 3 devices, every 7th after a nack"
    )


async def test_each_message_once_in_order_while_gateways_and_a_dispatcher_die(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=2)
    await deployment.start()
    clients = 24
    first, second = deployment.gateways
    async with AsyncExitStack() as stack:
        service = token("p", service=True)
        publisher = await stack.enter_async_context(Publisher(deployment.ingests[0].url, service))
        await publisher.create_all(TOPICS)
        orders = {
            "url": deployment.ingests[0].url, "stream_urls": [first.url, second.url], "topics": TOPICS,
            "clients": clients, "tokens": [token(f"s{n}") for n in range(clients)], "options": QUICK,
        }  # fmt: skip
        application = await stack.enter_async_context(await Application.run(orders))
        traffic = await stack.enter_async_context(Traffic([deployment.ingests[0].url], service, TOPICS, strict=False))
        await _flows(application)
        first.kill9()
        await _flows(application, clients)
        await _back(first)
        second.signal(signal.SIGSTOP)
        await asyncio.sleep(3)
        await _flows(application, clients)
        second.signal(signal.SIGCONT)
        deployment.dispatchers[0].kill9()
        await _flows(application, clients)
        first.sigterm()
        await _flows(application, clients)
        await traffic.stop()
        sent = {topic: [numbered(json.loads(one)) for one in payloads] for topic, payloads in traffic.sent.items()}
        due = clients * traffic.total
        await until("every client has all", lambda: application.counts["message"] >= due, 60)
        await asyncio.sleep(0.5)
        _once_in_order(application, sent, clients)
        lost = len([line for line in application.of("state") if line["state"] == "waiting"])
        assert lost >= clients
    figures.say(
        f"kill -9 and SIGTERM of one gateway, the other frozen, kill -9 of a dispatcher: {lost} lost connections of "
        f"{clients} clients, {traffic.total} messages once and in order at each"
    )


@contextmanager
def _page(file: Path, code: str) -> Iterator["subprocess.Popen[str]"]:
    """The code of a page as `page.mjs` runs it."""
    file.write_text(code, "utf-8")
    command = [node(), "test/served/page.mjs", str(file)]
    with subprocess.Popen(command, cwd=CLIENT, stdout=subprocess.PIPE, text=True) as page:
        try:
            yield page
        finally:
            page.kill()


async def _flows(application: Application, clients: int = 1, more: int = 5) -> None:
    """Waits until each of so many clients was given more."""
    before = application.counts["message"]
    seen = len(application.lines)

    def given() -> bool:
        counts: dict[str, int] = {}
        for line in application.lines[seen:]:
            if line["on"] == "message":
                counts[line["who"]] = counts.get(line["who"], 0) + 1
        return sum(count >= more for count in counts.values()) >= clients

    await until(f"more than {before} messages", given, 40)


async def _back(role: Role) -> None:
    role.start()
    await role.ready()


def _once_in_order(application: Application, sent: dict[str, list[bytes]], clients: int) -> None:
    assert application.of("gap") == [] and application.of("end") == []
    seen = application.seen()
    for topic, payloads in sent.items():
        assert len(seen[topic]) == clients
        for who, messages in seen[topic].items():
            ledger.complete(topic, who, messages, payloads)
        ledger.same_everywhere(topic, seen[topic])

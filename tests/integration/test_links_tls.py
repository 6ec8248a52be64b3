"""Links over TLS: what each end demands of the other, and one clear line for each way in which it can be wrong."""

import asyncio
import inspect
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop

from headgate.core.wire.link import AskCount, Message
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.links.pool import LinkPool
from headgate.runtime.links.tls import AFTER_HANDSHAKE, BadTlsFiles, LinkTls, TlsFiles
from headgate.runtime.links.websocket_link import Credentials, WebSocketLink, open_link, serve_links
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Shell
from headgate.runtime.system import SystemClock, SystemRng
from tests.certificates import DAY, Authority, Pair

SECRET = b"s" * 32
RNG = SystemRng()


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test on each: the errors of TLS differ between them, and services run on uvloop."""

    def run(loop: str, **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(test(**fixtures))

    names = [inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY), *inspect.signature(test).parameters.values()]
    ordered = sorted(names, key=lambda name: name.kind)
    vars(run)["__signature__"] = inspect.Signature(ordered)  # where pytest finds the fixtures
    run.__doc__ = test.__doc__
    pytest.mark.parametrize("loop", sorted(LOOPS))(run)
    return run


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


def tls(authority: Authority, pair: Pair, server_name: str | None = None) -> LinkTls:
    return LinkTls(TlsFiles(authority.ca, pair.certificate, pair.key, server_name))


@asynccontextmanager
async def dispatcher(
    own: LinkTls | None, log: list[str] | None = None
) -> AsyncIterator[tuple[str, list[WebSocketLink]]]:
    accepted: list[WebSocketLink] = []
    lines = [] if log is None else log
    credentials = Credentials(SECRET, own)
    server = await serve_links(
        "127.0.0.1", 0, credentials, "d1", RNG, accepted.append, lambda code, why: lines.append(why)
    )
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", accepted
    finally:
        server.close()
        await server.wait_closed()


async def why_not(address: str, own: LinkTls | None, secret: bytes = SECRET) -> str:
    with pytest.raises(ConnectionError) as caught:
        await open_link(address, Credentials(secret, own), "ingest", "n1", RNG)
    return str(caught.value).removeprefix(f"no link to {address}: ")


@on_both_loops
async def test_messages_pass_between_two_ends_that_know_each_other(authority: Authority) -> None:
    async with dispatcher(tls(authority, authority.sign("d1"))) as (address, accepted):
        near = await open_link(address, Credentials(SECRET, tls(authority, authority.sign("n1"))), "ingest", "n1", RNG)
        got: asyncio.Queue[list[Message]] = asyncio.Queue()
        accepted[0].deliver_to(lambda messages: got.put_nowait(list(messages)))
        running = asyncio.create_task(near.run())
        sent = AskCount(7, 0, ["t"])
        near.send(sent)
        async with asyncio.timeout(5):
            assert await got.get() == [sent]
        connection = near._connection.transport.get_extra_info("ssl_object")
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
        near.close("done")
        await running


@on_both_loops
async def test_the_secret_is_still_needed(authority: Authority) -> None:
    async with dispatcher(tls(authority, authority.sign("d1"))) as (address, accepted):
        why = await why_not(address, tls(authority, authority.sign("n1")), b"w" * 32)
        assert "secret" in why
        assert accepted == []


@on_both_loops
async def test_a_dispatcher_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    async with dispatcher(tls(other, other.sign("d1"))) as (address, accepted):
        why = await why_not(address, tls(authority, authority.sign("n1")))
        assert why.startswith("its certificate is refused: it is not signed by an authority in cluster.tls.ca")
        assert accepted == []


@on_both_loops
async def test_a_client_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    """It trusts the dispatcher, but the dispatcher does not trust it."""
    other = Authority(tmp_path / "other").sign("n1")
    log: list[str] = []
    async with dispatcher(tls(authority, authority.sign("d1")), log) as (address, accepted):
        assert await why_not(address, tls(authority, other)) == AFTER_HANDSHAKE
        assert accepted == []
    assert len(log) == 1
    assert "its certificate is refused: it is not signed by an authority in cluster.tls.ca" in log[0]


@on_both_loops
async def test_an_expired_certificate_is_refused_on_either_end(authority: Authority) -> None:
    good, old = authority.sign("good"), authority.sign("old", valid=(-2 * DAY, -DAY))
    async with dispatcher(tls(authority, old)) as (address, _):
        assert await why_not(address, tls(authority, good)) == "its certificate is refused: certificate has expired"
    log: list[str] = []
    async with dispatcher(tls(authority, good), log) as (address, accepted):
        assert await why_not(address, tls(authority, old)) == AFTER_HANDSHAKE
        assert accepted == []
    assert log == ["a link from a stranger: its certificate is refused: certificate has expired"]


@on_both_loops
async def test_the_dispatchers_name_is_checked(authority: Authority) -> None:
    ours = authority.sign("n1")
    async with dispatcher(tls(authority, authority.sign("d1", hosts=("dispatcher.example",)))) as (address, _):
        assert "certificate is not valid for '127.0.0.1'" in await why_not(address, tls(authority, ours))
        named = Credentials(SECRET, tls(authority, ours, "dispatcher.example"))
        (await open_link(address, named, "ingest", "n1", RNG)).close("done")
        host = Credentials(SECRET, tls(authority, ours))
        (await open_link(address, host, "ingest", "n1", RNG, "dispatcher.example")).close("done")


@on_both_loops
async def test_a_client_without_certificate_is_refused(authority: Authority) -> None:
    class Bare(LinkTls):
        def client(self) -> ssl.SSLContext:
            return ssl.create_default_context(cafile=str(authority.ca))

    ours = authority.sign("n1")
    bare = Bare(TlsFiles(authority.ca, ours.certificate, ours.key))
    log: list[str] = []
    async with dispatcher(tls(authority, authority.sign("d1")), log) as (address, accepted):
        assert await why_not(address, bare) == AFTER_HANDSHAKE
        assert accepted == []
    assert log == ["a link from a stranger: TLS failed: peer did not return a certificate"]


@on_both_loops
async def test_tls_1_1_is_refused(authority: Authority) -> None:
    for context in (tls(authority, authority.sign("d1")).server(print), tls(authority, authority.sign("n1")).client()):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.verify_mode is ssl.CERT_REQUIRED


@on_both_loops
async def test_a_plain_client_at_a_tls_port(authority: Authority) -> None:
    log: list[str] = []
    async with dispatcher(tls(authority, authority.sign("d1")), log) as (address, accepted):
        why = await why_not(address, None)
        assert why == "it does not answer in plain text; cluster.tls must be set on all services or on none"
        assert accepted == []
    assert log == ["a link from a stranger: it does not speak TLS; cluster.tls must be set on all services or on none"]


@on_both_loops
async def test_a_tls_client_at_a_plain_port(authority: Authority) -> None:
    async with dispatcher(None) as (address, accepted):
        why = await why_not(address, tls(authority, authority.sign("n1")))
        assert why == "it does not speak TLS; cluster.tls must be set on all services or on none"
        assert accepted == []


def _no_key(files: TlsFiles) -> TlsFiles:
    return files._replace(key=None)


def _wrong_key(files: TlsFiles) -> TlsFiles:
    return files._replace(key=Authority(files.ca.parent / "x").sign("x").key)


def _missing(files: TlsFiles) -> TlsFiles:
    return files._replace(certificate=files.ca.parent / "gone.pem")


def _garbage(files: TlsFiles) -> TlsFiles:
    files.ca.write_text("nothing")
    return files


def _locked_key(files: TlsFiles) -> TlsFiles:
    assert files.key is not None
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - here alone

    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    form = serialization.PrivateFormat.PKCS8
    locked = key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"pw"))
    files.key.write_bytes(locked)
    return files


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (_no_key, "cluster.tls.key is not set and it has no private key"),
        (_wrong_key, "is not the key of cluster.tls.certificate"),
        (_missing, "gone.pem: No such file or directory"),
        (_garbage, "ca.pem: no certificate in PEM form"),
        (_locked_key, "n1.key has no private key without a password"),
    ],
)
def test_files_that_cannot_be_used_are_named_in_one_line(
    authority: Authority, spoil: Callable[[TlsFiles], TlsFiles], text: str
) -> None:
    pair = authority.sign("n1")
    with pytest.raises(BadTlsFiles) as caught:
        LinkTls(spoil(TlsFiles(authority.ca, pair.certificate, pair.key)))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def _replace(pair: Pair, new: Pair) -> None:
    shutil.copy(new.key, pair.key)
    shutil.copy(new.certificate, pair.certificate)


@on_both_loops
async def test_renewed_files_are_used_by_the_next_connection(authority: Authority, tmp_path: Path) -> None:
    """Of both ends, with a new authority too; a half-written renewal leaves the old files in use."""
    far_pair, near_pair = authority.sign("d1"), authority.sign("n1")
    near = tls(authority, near_pair)
    async with dispatcher(tls(authority, far_pair)) as (address, accepted):
        (await open_link(address, Credentials(SECRET, near), "ingest", "n1", RNG)).close("done")
        far_pair.certificate.write_text("half")
        with structlog.testing.capture_logs() as lines:
            (await open_link(address, Credentials(SECRET, near), "ingest", "n1", RNG)).close("done")
        assert [line["event"] for line in lines] == ["the new TLS files cannot be used; the ones before stay in use"]
        other = Authority(tmp_path / "other")
        _replace(far_pair, other.sign("d1"))
        assert "not signed by an authority" in await why_not(address, near)
        shutil.copy(other.ca, authority.ca)
        _replace(near_pair, other.sign("n1"))
        (await open_link(address, Credentials(SECRET, near), "ingest", "n1", RNG)).close("done")
        assert len(accepted) == 3


@pytest.fixture
def logged() -> Iterator[list[dict[str, object]]]:
    with structlog.testing.capture_logs() as lines:
        yield lines  # type: ignore[misc]  # structlog's own type of a line


@on_both_loops
async def test_the_pool_says_it_once_tries_again_and_connects_when_it_is_mended(
    authority: Authority, tmp_path: Path, logged: list[dict[str, object]]
) -> None:
    pair = Authority(tmp_path / "other").sign("n1")
    directory = LinkDirectory("ingest", "n1")
    shell = Shell(SystemClock(), RNG, Metrics(frozenset({"ingest"})))
    async with dispatcher(tls(authority, authority.sign("d1"))) as (address, accepted):
        pool = LinkPool(directory, [address], Credentials(SECRET, tls(authority, pair)), shell)
        running = asyncio.create_task(pool.run())
        async with asyncio.timeout(10):
            while not logged:
                await asyncio.sleep(0.02)
        _replace(pair, authority.sign("n1"))
        async with asyncio.timeout(10):
            while not accepted:
                await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.wait([running])
    lines = [line for line in logged if line["event"] == "no link to a dispatcher"]
    assert [line["why"] for line in lines] == [f"no link to {address}: {AFTER_HANDSHAKE}"]
    assert "PRIVATE" not in str(logged) and SECRET.decode() not in str(logged)

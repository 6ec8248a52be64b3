"""What surrounds the brokers, without one: jars, ports, processes and the order of `provide`.

Must not need a network, Java or Docker.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from tests.kafka import fixtures, jars, node, provide
from tests.kafka.jars import Jar, JarRefused, JarUnavailable
from tests.kafka.ports import HeldPorts, NoFreePort

REPOSITORY = Path(__file__).parents[2]
GOOD = b"the published jar"
JAR = Jar("org.example", "thing", "1.0", sha256(GOOD).hexdigest())


class Published:
    """Stands for the artifact repository: gives `content`, or raises it, and counts the downloads."""

    def __init__(self) -> None:
        self.content: bytes | Exception = GOOD
        self.downloads = 0

    def resolve(self, jar: Jar, scratch: Path) -> Path:
        self.downloads += 1
        if isinstance(self.content, Exception):
            raise self.content
        file = scratch / jar.filename
        file.write_bytes(self.content)
        return file


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Published:
    published = Published()
    monkeypatch.setattr(jars, "_resolve", published.resolve)
    return published


def test_a_wrong_sha256_is_refused_and_never_reaches_the_cache(published: Published, tmp_path: Path) -> None:
    published.content = b"something else"
    with pytest.raises(JarRefused) as refused:
        jars.fetch([JAR], tmp_path)
    for part in ("org.example:thing:1.0", JAR.sha256, sha256(b"something else").hexdigest(), "refused"):
        assert part in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    assert published.downloads == 1


def test_a_cached_jar_is_not_downloaded_again_and_a_damaged_one_is(published: Published, tmp_path: Path) -> None:
    (file,) = jars.fetch([JAR], tmp_path)
    assert jars.fetch([JAR], tmp_path) == [file]
    assert published.downloads == 1
    file.write_bytes(GOOD[:-1])
    jars.fetch([JAR], tmp_path)
    assert file.read_bytes() == GOOD
    assert published.downloads == 2


def test_two_fetches_at_once_both_end_with_the_whole_jar(published: Published, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: jars.fetch([JAR], tmp_path), range(2)))
    assert both[0] == both[1]
    assert both[0][0].read_bytes() == GOOD
    assert list(tmp_path.iterdir()) == both[0]


def test_a_download_is_tried_a_bounded_number_of_times(published: Published, tmp_path: Path) -> None:
    published.content = RuntimeError("connection lost")
    with pytest.raises(JarUnavailable, match=r"org\.example:thing:1\.0: connection lost"):
        jars.fetch([JAR], tmp_path)
    assert published.downloads == jars.ATTEMPTS


def test_the_lock_pins_every_jar_and_names_no_host() -> None:
    locked = jars.read_lock()
    assert len(locked) == len({jar.filename for jar in locked}) == 44
    assert not {jar.artifact for jar in locked} & {"kafka-tools-api", "log4j-slf4j2-impl"}
    assert "://" not in jars.LOCK.read_text("utf-8")


def test_an_unreadable_line_of_the_lock_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "jars.lock"
    lock.write_text("org.example:thing:1.0\n")
    with pytest.raises(JarRefused, match=r"line 1: expected 'group:artifact:version sha256:<hex>'"):
        jars.read_lock(lock)


def test_held_ports_are_given_to_nobody_else() -> None:
    held = HeldPorts.any(2)
    try:
        assert len(set(held.ports)) == 2
        with pytest.raises(NoFreePort):
            HeldPorts.exactly(held.ports[:1])
        again = held.ports
    finally:
        held.release()
    retaken = HeldPorts.exactly(again)
    assert retaken.ports == again
    retaken.release()


def test_a_failed_start_shows_the_end_of_the_output(tmp_path: Path) -> None:
    broken = node.KafkaNode(1, 20_000, tmp_path, (sys.executable, "-c", "print('disk full'); raise SystemExit(3)"))
    broken.start()
    with pytest.raises(node.KafkaStartError, match=r"ended with 3; its output ends with\ndisk full"):
        broken.wait_ready()


def test_a_silent_start_is_given_up(tmp_path: Path) -> None:
    silent = node.KafkaNode(1, 20_000, tmp_path, ("/bin/sleep", "60"))
    silent.start()
    try:
        with pytest.raises(node.KafkaStartError, match="not ready after 0 s"):
            silent.wait_ready(0.1)
    finally:
        silent.kill9()


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that starts a child from a thread which then ends, prints the child's id and goes on."""
    code = f"""
        import threading, time
        from pathlib import Path
        from tests.kafka.node import KafkaNode
        child = KafkaNode(1, 20_000, Path({str(tmp_path)!r}), ("/bin/sleep", "60"))
        def start():
            child.start()
            while not Path(f"/proc/{{child.pid}}/cmdline").read_bytes().startswith(b"/bin/sleep"):
                time.sleep(0.01)  # until it is no longer the launcher: from then on it dies with its parent
        thread = threading.Thread(target=start)
        thread.start(); thread.join()
        time.sleep(0.1)
        print(child.pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
def test_a_broker_dies_with_a_killed_test_process_and_not_with_a_thread(parent: subprocess.Popen[str]) -> None:
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    deadline = time.monotonic() + 5
    while is_running(child):
        assert time.monotonic() < deadline, f"process {child} outlives its parent"
        time.sleep(0.02)


def test_a_given_address_that_does_not_answer_is_an_error_not_a_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    held = HeldPorts.any(1)
    monkeypatch.setenv(provide.GIVEN, f"127.0.0.1:{held.ports[0]}")
    try:
        with pytest.raises(ConnectionError, match="nothing answers there"), provide.provide():
            pass
    finally:
        held.release()


def test_without_anything_every_reason_is_named(
    published: Published, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    published.content = RuntimeError("no network")
    monkeypatch.delenv(provide.GIVEN, raising=False)
    monkeypatch.setenv("HEADGATE_KAFKA_CACHE", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with (
        pytest.raises(provide.NoKafka, match=r"(?s)jars: .*no network.*Docker: no engine answers.*is not set"),
        provide.provide(),
    ):
        pass


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_ci_never_skips(ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", ci)
    # Both are caught: a skip let through would skip this test instead of failing it.
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception), match="no Kafka: because") as ended:
        fixtures.without_kafka("because")
    assert ended.type is outcome


def is_running(pid: int) -> bool:
    """Also true for a zombie of ours; not for one that init has still to reap."""
    try:
        os.kill(pid, signal.SIG_DFL)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False

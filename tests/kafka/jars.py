"""Fetches the jars of `jars.lock`, and only with the SHA-256 written there.

Must not know how a broker is configured or run. `python -m tests.kafka.jars` fetches them ahead of a test run.
"""

import hashlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import requests
from jgo.config import GlobalSettings
from jgo.maven import MavenContext

LOCK = Path(__file__).with_name("jars.lock")
DEFAULT_CACHE = Path(__file__).parents[2] / ".cache" / "kafka"

FETCHES_AT_ONCE = 4  # each jar is two small requests: more than this gains nothing
ATTEMPTS = 3  # a dropped connection is common, a third in a row is an outage
TIMEOUT_S = 60

_LINE = re.compile(r"([\w.-]+):([\w.-]+):([\w.-]+) sha256:([0-9a-f]{64})")


class JarRefused(RuntimeError):
    """A jar is not the one that `jars.lock` names, or the lock cannot be read. Never worked around."""


class JarUnavailable(RuntimeError):
    """A jar could not be downloaded."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: `group:artifact:version sha256:<64 hex>`."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


def read_lock(lock: Path = LOCK) -> tuple[Jar, ...]:
    """The jars in the lock's order; raises JarRefused for a line that is neither a jar nor a comment."""
    jars = []
    for number, line in enumerate(lock.read_text("utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise JarRefused(
                f"{lock.name}, line {number}: expected 'group:artifact:version sha256:<hex>', saw {line!r}"
            )
        jars.append(Jar(*found.groups()))
    return tuple(jars)


def kafka_version(jars: Sequence[Jar] | None = None) -> str:
    """The version of the broker that the lock pins."""
    return next(jar.version for jar in jars or read_lock() if jar.artifact == "kafka-clients")


def fetch(jars: Sequence[Jar] | None = None, cache: Path | None = None) -> list[Path]:
    """Return the verified file of every jar, downloading what the cache has not got.

    Safe when several processes do it at once. A cached file with another hash is downloaded anew; a downloaded one
    raises JarRefused. Raises JarUnavailable when a download fails ATTEMPTS times.
    """
    wanted = read_lock() if jars is None else jars
    folder = cache or cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    files = {jar: folder / jar.filename for jar in wanted}
    missing = [jar for jar, file in files.items() if not _is_cached(jar, file)]
    if missing:
        progress = _Progress(len(missing))
        with ThreadPoolExecutor(FETCHES_AT_ONCE) as pool:
            running = [pool.submit(_download, jar, files[jar], progress) for jar in missing]
            try:
                for one in running:
                    one.result()
            finally:
                pool.shutdown(cancel_futures=True)
    return list(files.values())


def cache_folder() -> Path:
    """`HEADGATE_KAFKA_CACHE`, else a folder in the repository that git ignores."""
    return Path(os.environ.get("HEADGATE_KAFKA_CACHE") or DEFAULT_CACHE)


def sha256_of(file: Path) -> str:
    """Lower-case hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class _Progress:
    """One line on stderr, rewritten on a terminal; elsewhere only the first and the last."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._bytes = 0
        self._lock = threading.Lock()
        self._say(f"fetching {total} jars")

    def add(self, file: Path) -> None:
        with self._lock:
            self._done += 1
            self._bytes += file.stat().st_size
            if sys.stderr.isatty() or self._done == self._total:
                self._say(f"{self._done}/{self._total} jars, {self._bytes / 1e6:.1f} MB")

    def _say(self, text: str) -> None:
        rewritten = sys.stderr.isatty() and self._done < self._total
        sys.stderr.write(f"\r\033[Kkafka: {text}" if rewritten else f"\rkafka: {text}\n")
        sys.stderr.flush()


def _is_cached(jar: Jar, file: Path) -> bool:
    if not file.exists():
        return False
    if sha256_of(file) == jar.sha256:
        return True
    sys.stderr.write(f"kafka: {file.name} in the cache is not the locked one, fetching it again\n")
    return False


def _download(jar: Jar, target: Path, progress: _Progress) -> None:
    # A folder of its own for each attempt: jgo takes a half-written file in its cache for the artifact.
    for attempt in range(1, ATTEMPTS + 1):
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as scratch:
            try:
                fetched = _resolve(jar, Path(scratch))
            except (requests.RequestException, RuntimeError) as error:
                if attempt < ATTEMPTS:
                    continue
                raise JarUnavailable(f"{jar}: {error} ({ATTEMPTS} attempts)") from error
            _verify(jar, fetched)
            fetched.replace(target)  # atomic: another process sees the whole file or none
        progress.add(target)
        return


def _resolve(jar: Jar, scratch: Path) -> Path:
    # The user's jgo settings may name a mirror; the repository names no host.
    mirrors = GlobalSettings.load().repositories
    context = MavenContext(repo_cache=scratch, remote_repos=mirrors or None, timeout=TIMEOUT_S)
    return context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()


def _verify(jar: Jar, file: Path) -> None:
    seen = sha256_of(file)
    if seen != jar.sha256:
        raise JarRefused(
            f"{jar}: SHA-256 of the downloaded file ({file.stat().st_size} bytes) is {seen}, "
            f"jars.lock expects {jar.sha256}; refused"
        )


if __name__ == "__main__":
    print(f"{len(fetch())} jars in {cache_folder()}")

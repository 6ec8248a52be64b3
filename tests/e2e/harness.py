"""Real `headgate` processes on free ports of this machine, and what a test does to them.

Must not know what the tests prove, nor how clients speak to the processes (`clients.py`).
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from headgate.core.wire.rights import Caller
from headgate.runtime.tokens import TokenKey, mint
from tests.e2e.http import Http, NoAnswer
from tests.kafka.ports import HeldPorts

ROOT: Final = Path(__file__).parents[2]
SECRET: Final = "end-to-end-secret-of-at-least-32-bytes"
READY_S: Final = 60.0  # seen: 2-4 s; two slow cores shared with others
POLL_S: Final = 0.05
TAIL_BYTES: Final = 6_000

# The kernel kills the child with the thread that started it, however the test process ends.
_DIE_WITH_PARENT: Final = """
import os, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that wanted this one is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
_spawner = ThreadPoolExecutor(1, thread_name_prefix="e2e-spawner")  # lives as long as the test process
_METRIC: Final = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")


class RoleFailed(AssertionError):
    """A process did not do what was waited for; the text ends with the tail of its standard error."""


Condition = Callable[[], Awaitable[object]] | Callable[[], object]


async def until(what: str, condition: Condition, timeout_s: float, poll_s: float = POLL_S) -> float:
    """Polls until the condition holds; returns the seconds it took. Raises AssertionError that names `what`."""
    started = time.monotonic()
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return time.monotonic() - started
        if time.monotonic() - started > timeout_s:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        await asyncio.sleep(poll_s)


async def at_most(timeout_s: float, condition: Condition) -> float:
    """Polls like `until`, but goes on when the time is over: what is missing the ledger names better."""
    started = time.monotonic()
    with contextlib.suppress(AssertionError):
        await until("", condition, timeout_s)
    return time.monotonic() - started


def token(sub: str, *, ttl_s: float = 3_600.0, **rights: Any) -> str:
    """Returns a bearer token; `service=True` lifts rates and the connections per user."""
    return mint(TokenKey(SECRET), Caller(sub, **rights), now_s=time.time(), ttl_s=ttl_s)


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Returns the environment of a process: settings as `group.name`, and nothing of ours that stood there before."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
    env["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "clients" / "python" / "src")))
    env |= {f"HEADGATE_{name.upper().replace('.', '__')}": str(value) for name, value in settings.items()}
    return env


class Role:
    """One process. It may be started again after it ended: same ports, same data."""

    def __init__(self, name: str, arguments: Sequence[str], settings: Mapping[str, object], home: Path) -> None:
        self.name = name
        self.settings = dict(settings)
        self.stderr = home / f"{name}.err"
        self.stdout = home / f"{name}.out"
        self.before: list[str] = []  # what the command line begins with: `env NAME=VALUE` and the like
        self._arguments = list(arguments)
        self._home = home
        self._earlier = 0  # characters of its standard error before the present start
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def admin(self) -> str:
        """The base URL of the admin port."""
        return f"http://127.0.0.1:{self.settings['admin.port']}"

    @property
    def port(self) -> int:
        """The port of the role itself."""
        return int(str(self.settings[f"{self._arguments[0]}.port"]))

    @property
    def url(self) -> str:
        """The base URL of the role's HTTP or streams."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the running process, None when it does not run."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> "Role":
        """Starts the process and returns at once."""
        assert not self.running, f"{self.name} runs already"
        self._home.mkdir(parents=True, exist_ok=True)
        self._earlier = len(self.errors())
        self._process = _spawner.submit(self._spawn).result()
        return self

    def _spawn(self) -> "subprocess.Popen[bytes]":
        command = [*self.before, sys.executable, "-m", "headgate.cli.main", *self._arguments]
        with self.stderr.open("ab") as err, self.stdout.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self._home,
                env=environment(self.settings),
                start_new_session=True,
            )

    async def ready(self, timeout_s: float = READY_S) -> float:
        """Waits for /readyz; returns the seconds it took. Raises RoleFailed."""
        seen: list[str] = ["no answer"]

        async def asks() -> bool:
            if not self.running:
                raise RoleFailed(self._failure("ended before it was ready"))
            try:
                answer = await http.request("GET", "/readyz")
            except (NoAnswer, TimeoutError) as error:
                seen[0] = f"{type(error).__name__} {error}"
                return False
            seen[0] = answer.body.decode()
            return answer.status == 200

        async with Http(self.admin, timeout_s=2.0) as http:
            try:
                return await until(f"{self.name} ready", asks, timeout_s)
            except AssertionError as error:
                raise RoleFailed(self._failure(f"{error} ({seen[0]})")) from None

    async def metrics(self) -> dict[str, float]:
        """Returns the admin port's numbers by name with labels, as they stand in the text."""
        async with Http(self.admin, timeout_s=5.0) as http:
            text = (await http.request("GET", "/metrics")).body.decode()
        found = (_METRIC.match(line) for line in text.splitlines() if not line.startswith("#"))
        return {f"{m[1]}{{{m[2] or ''}}}": float(m[3]) for m in found if m}

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        assert self._process is not None and self.running, f"{self.name} does not run"
        self._process.send_signal(number)

    def kill9(self) -> None:
        """SIGKILL; returns when the process is gone. Nothing happens when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def sigterm(self) -> None:
        """Asks the process to drain."""
        self.signal(signal.SIGTERM)

    async def ended(self, timeout_s: float) -> int:
        """Waits for the end; returns the exit status. Raises RoleFailed."""
        assert self._process is not None
        try:
            return await asyncio.to_thread(self._process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            raise RoleFailed(self._failure(f"still runs after {timeout_s:.0f} s")) from None

    def errors(self) -> str:
        """What it wrote to standard error."""
        return self.stderr.read_text("utf-8", "replace") if self.stderr.exists() else ""

    def errors_since_start(self) -> str:
        """What it wrote to standard error since it was started last."""
        return self.errors()[self._earlier :]

    def _failure(self, what: str) -> str:
        status = "runs" if self.running else f"exit {self._process.poll() if self._process else 'never started'}"
        return f"{self.name} ({status}): {what}; its standard error ends with\n{self.errors()[-TAIL_BYTES:]}"


_LIVE: Final = "shard live"
_LEFT: Final = "shard has another owner"


def shards_of(dispatcher: Role) -> set[int]:
    """Returns the shards that a dispatcher owns, by its own log lines."""
    lines = [json.loads(line) for line in dispatcher.errors_since_start().splitlines() if line.startswith("{")]
    newest = {line["shard"]: line["event"] for line in lines if line["event"] in (_LIVE, _LEFT)}
    return {shard for shard, event in newest.items() if event == _LIVE}


class Stage:
    """The processes of one test, in one folder; `close` kills what is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.roles: list[Role] = []
        self._held: list[HeldPorts] = []

    def ports(self, count: int) -> tuple[int, ...]:
        """Returns free ports that stay ours."""
        held = HeldPorts.any(count)
        self._held.append(held)
        return held.ports

    def role(self, name: str, arguments: Sequence[str], settings: Mapping[str, object]) -> Role:
        """Describes a process without starting it."""
        role = Role(name, arguments, settings, self.folder / name)
        self.roles.append(role)
        return role

    def dev(self, **settings: object) -> Role:
        """Describes `headgate dev`; with `data` the log is a folder."""
        port, admin = self.ports(2)
        named = {name.replace("__", "."): value for name, value in settings.items()}
        arguments = ["dev", "--data", str(self.folder / "data")] if named.pop("data", False) else ["dev"]
        return self.role("dev", arguments, {"dev.port": port, "admin.port": admin, "drain.spread_s": 1, **named})

    async def command(
        self, *arguments: str, stdin: bytes = b"", settings: Mapping[str, object] | None = None
    ) -> tuple[int, bytes, bytes]:
        """Runs one `headgate` command to its end; returns exit status, standard output and standard error."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "headgate.cli.main", *arguments],
            input=stdin, env=environment(settings or {}), cwd=self.folder, timeout=180,
            capture_output=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def close(self) -> None:
        """Kills every process and lets the ports go."""
        for role in self.roles:
            role.kill9()
        for held in self._held:
            held.release()

    def tracebacks(self) -> list[str]:
        """Returns what any process of the test wrote that looks like a defect of ours."""
        found = []
        for role in self.roles:
            for line in role.errors().splitlines():
                if "Traceback" in line or '"level": "critical"' in line:
                    found.append(f"{role.name}: {line[:600]}")
        return found


class Deployment:
    """Separate processes on one Kafka. Every dispatcher's address is known from the start."""

    def __init__(
        self, stage: Stage, bootstrap: str, prefix: str, *,
        ingests: int = 1, dispatchers: int = 1, gateways: int = 1, settings: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        self.stage = stage
        self.bootstrap = bootstrap
        self.prefix = prefix
        own = stage.ports(2 * (ingests + dispatchers + gateways))
        pairs = [(own[i], own[i + 1]) for i in range(0, len(own), 2)]
        inner = [pairs.pop() for _ in range(dispatchers)]
        self.common: dict[str, object] = {
            "log.url": f"kafka://{bootstrap}",
            "log.prefix": prefix,
            "auth.secret": SECRET,
            "cluster.dispatchers": ",".join(f"127.0.0.1:{port}" for port, _ in inner),
            "admin.host": "127.0.0.1",
            "drain.spread_s": 1,
            **(settings or {}),
        }
        self.dispatchers = [self._role("dispatcher", n, pair) for n, pair in enumerate(inner)]
        self.ingests = [self._role("ingest", n, pairs.pop()) for n in range(ingests)]
        self.gateways = [self._role("gateway", n, pairs.pop()) for n in range(gateways)]

    def _role(self, kind: str, number: int, ports: tuple[int, int]) -> Role:
        port, admin = ports
        own: dict[str, object] = {f"{kind}.host": "127.0.0.1", f"{kind}.port": port, "admin.port": admin}
        if kind == "dispatcher":
            own |= {"dispatcher.data": self.stage.folder / f"index-{number}"}
        return self.stage.role(f"{kind}-{number}", [kind], self.common | own)

    @property
    def roles(self) -> list[Role]:
        """All processes."""
        return [*self.dispatchers, *self.ingests, *self.gateways]

    def index(self, dispatcher: Role) -> Path:
        """The folder of a dispatcher's index files."""
        return Path(str(dispatcher.settings["dispatcher.data"]))

    async def start(self, shards: int = 8) -> float:
        """Runs `headgate init`, starts everything and waits until all is ready; returns the seconds it took."""
        started = time.monotonic()
        status, out, err = await self.stage.command("init", settings=self.common | {"log.shards": shards})
        assert status == 0, f"headgate init ends with {status}: {err.decode()}"
        assert out == b"", "roles and init write nothing to standard output"
        for role in self.roles:
            role.start()
        for role in self.roles:
            await role.ready()
        return time.monotonic() - started

"""A real Prometheus that scrapes processes of this machine every second, for one test. Knows no rule and no role."""

import json
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.e2e.harness import until

READY_S = 30.0


class Asking(NamedTuple):
    """A Prometheus that runs: where, and a client of it."""

    url: str
    http: httpx.AsyncClient

    async def __call__(self, query: str) -> Any:
        """Returns what a query has as its result now. An error in the query is an AssertionError."""
        body = (await self.http.get("/api/v1/query", params={"query": query})).json()
        assert body["status"] == "success", f"{query}: {body}"
        return body["data"]["result"]

    async def alerts(self) -> list[dict[str, Any]]:
        """Returns the alerts that are pending or firing now, each with `labels` and `state`."""
        found: list[dict[str, Any]] = (await self.http.get("/api/v1/alerts")).json()["data"]["alerts"]
        return found


@asynccontextmanager
async def served(
    prometheus: Path,
    folder: Path,
    targets: Mapping[str, Sequence[str]],
    rules: Path,
    port: int,
    *,
    machine: str | None = None,
) -> AsyncIterator[Asking]:
    """Yields a Prometheus. `targets` are URLs by their label `role`; `rules` is evaluated every second.

    `machine` is the URL of a node exporter, which is a job of its own.
    """
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {"job_name": "headgate", "static_configs": [_labelled(urls, role=role) for role, urls in targets.items()]},
            {"job_name": "machine", "static_configs": [_labelled([machine])] if machine else []},
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")
    command = [
        str(prometheus), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with (folder / "prometheus.err").open("wb") as err:
        process = subprocess.Popen(command, stdout=err, stderr=err, stdin=subprocess.DEVNULL)
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10.0, trust_env=False) as http:

                async def answers() -> bool:
                    try:
                        return (await http.get("/-/ready")).status_code == 200
                    except httpx.TransportError:
                        return False

                await until("Prometheus answers", answers, READY_S)
                yield Asking(f"http://127.0.0.1:{port}", http)
        finally:
            process.kill()
            process.wait()


def _labelled(urls: Sequence[str], **labels: str) -> dict[str, Any]:
    return {"targets": [url.removeprefix("http://") for url in urls], "labels": labels}

"""A small HTTP server that stands in for ingest: it keeps what was published once, and misbehaves on demand."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Reply = tuple[int, dict[str, str], Any]  # status, headers, body
LOST = None  # a script's way to say: close the connection without an answer

OPEN = "/api/v1/publish/batch"
PROBLEM = "application/problem+json"


class Twin:
    """Keeps messages by topic. `script` holds replies (or LOST) for the next requests, before the real behaviour.

    A scripted 504 or LOST with `after=True` is given after the messages were taken.
    """

    def __init__(self) -> None:
        self.messages: dict[str, list[Any]] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.script: list[tuple[Callable[[], Reply] | None, bool]] = []
        self.refuse: Callable[[str, Any], Reply | None] = lambda topic, payload: None
        self._seen: set[tuple[str, str]] = set()
        twin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                twin._serve(self)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def next(self, reply: Reply | None, *, after: bool = False) -> None:
        """Scripts the answer to the next request that has none yet."""
        self.script.append((None if reply is None else lambda: reply, after))

    def _serve(self, http: BaseHTTPRequestHandler) -> None:
        body = http.rfile.read(int(http.headers.get("Content-Length") or 0))
        self.requests.append((http.command, http.path, dict(http.headers), body))
        scripted, after = self.script.pop(0) if self.script else (self._answer, False)
        if scripted == self._answer or after:
            reply = self._answer_to(http.command, http.path, body)
        if scripted is LOST:
            http.close_connection = True
            return
        if scripted != self._answer:
            reply = scripted()
        status, headers, content = reply
        data = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        http.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            http.send_header(name, value)
        http.end_headers()
        http.wfile.write(data)

    def _answer(self) -> Reply:
        raise AssertionError("a mark, never called")

    def _answer_to(self, method: str, path: str, body: bytes) -> Reply:
        where = urlsplit(path).path
        if where.endswith("/publish/batch"):
            topic = None if where == OPEN else unquote(where.split("/")[4])
            return 200, {}, {"results": [self._publish(topic, json.loads(line)) for line in body.splitlines()]}
        return 404, {"Content-Type": PROBLEM}, problem(404, "not_found", f"{method} {where} is not there")

    def _publish(self, topic: str | None, item: dict[str, Any]) -> dict[str, Any]:
        topic_id = topic or item["topic_id"]
        refused = self.refuse(topic_id, item["payload"])
        if refused is not None:
            return dict(refused[2])
        key = (topic_id, item["client_msg_id"])
        if key not in self._seen:
            self._seen.add(key)
            self.messages.setdefault(topic_id, []).append(item["payload"])
        return {"status": 200, "topic_id": topic_id, "message_id": "m", "client_msg_id": key[1], "delivered_to": 0}


def problem(status: int, code: str, detail: str, **extra: Any) -> dict[str, Any]:
    return {"status": status, "code": code, "detail": detail, "title": code, "retryable": status >= 429, **extra}


def refusal(status: int, code: str, **extra: Any) -> Reply:
    headers = {"Content-Type": PROBLEM}
    if "retry_after" in extra:
        headers["Retry-After"] = str(extra.pop("retry_after"))
    return status, headers, problem(status, code, f"said {code}", **extra)

"""`headgate dev` with a key server: keys are rotated while it serves, and the key server goes away."""

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from headgate.core.wire.rights import Caller
from headgate.runtime.tokens import TokenKey, mint
from tests.runtime.key_pairs import key_set, published, signed
from tests.vectors.served import Served

SECRET = "a secret of at least thirty-two bytes"


class Publisher:
    """A key server on loopback."""

    def __init__(self) -> None:
        self.body = b""
        self.asked = 0
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.asked += 1
                self.send_response(200)
                self.end_headers()
                self.wfile.write(publisher.body)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys?tenant=1"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def publishing() -> Iterator[Publisher]:
    publisher = Publisher()
    with contextlib.closing(publisher):
        yield publisher


def token(algorithm: str, number: int, kid: str) -> str:
    now = int(time.time())
    return signed({"sub": "ann", "iat": now, "exp": now + 600}, algorithm, number, kid=kid)


def publish(served: Served, bearer: str) -> int:
    answer = httpx.post(
        f"{served.url}/api/v1/topics/t/publish",
        json={"payload": 1},
        headers={"Authorization": f"Bearer {bearer}"},
        trust_env=False,
        timeout=20,
    )
    return answer.status_code


def stream(served: Served, query: str) -> int:
    url = f"{served.url}/sse/subscribe?topic_id=t&{query}"
    with httpx.stream("GET", url, trust_env=False, timeout=20) as answer:
        return answer.status_code


def test_keys_are_rotated_without_an_outage_and_the_key_server_may_go_away() -> None:
    with publishing() as publisher:
        publisher.body = key_set(published("a", "RS256"))
        with Served("--auth.jwks_url", publisher.url, "--auth.secret", SECRET) as served:
            old, new = token("RS256", 0, "a"), token("EdDSA", 0, "b")
            assert publish(served, old) == 200 and stream(served, f"token={old}") == 200
            publisher.body = key_set(published("a", "RS256"), published("b", "EdDSA"))
            assert publish(served, new) == 200, "it waited for the key server"
            assert stream(served, f"token={new}") == 200 and publish(served, old) == 200
            asked = publisher.asked
            for number in range(3):
                assert publish(served, token("ES256", number, f"invented-{number}")) == 401
            assert publisher.asked == asked, "invented keys cause one fetch in 30 s, and that was just used"
            publisher.close()
            assert publish(served, old) == publish(served, new) == 200
            assert publish(served, mint(TokenKey(SECRET), Caller("bob"), now_s=time.time(), ttl_s=60)) == 200
            assert old not in served.said() and new not in served.said()


def test_a_stream_waits_for_a_fresh_key_too_and_a_ticket_of_such_a_token_is_good() -> None:
    with publishing() as publisher:
        publisher.body = key_set(published("a", "ES256"))
        with Served("--auth.jwks_url", publisher.url, "--topics.auto_create", "true") as served:
            assert publish(served, "x.y.z") == 401
            fresh = token("ES256", 1, "b")
            publisher.body = key_set(published("b", "ES256", 1))
            assert stream(served, f"token={fresh}") == 200
            ticket = httpx.post(
                f"{served.url}/api/v1/tickets",
                content=b"",
                headers={"Authorization": f"Bearer {fresh}"},
                trust_env=False,
            ).json()["ticket"]
            assert stream(served, f"ticket={ticket}") == 200 and stream(served, f"ticket={ticket}") == 401
            assert publish(served, token("ES256", 0, "a")) in (401, 503), "withdrawn"
            assert ticket not in served.said()

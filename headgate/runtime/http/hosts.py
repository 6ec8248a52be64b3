"""In open mode, the names that a request's `Host` may have.

A page whose own name was rebound to 127.0.0.1 (DNS rebinding) would otherwise have the same origin as this server.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.origins import Origins, is_loopback_name, read_origin
from headgate.runtime.http.problem import problem_of


class Hosts:
    """The rule: loopback names and addresses, the host of the listening socket, and the hosts of `http.origins`.

    Where a token is needed (not `is_open`) any name is allowed: a page has no token.
    """

    def __init__(self, origins: Origins, listening: str, *, is_open: bool) -> None:
        self._is_open = is_open
        self._listening = listening.lower().strip("[]")
        self._hosts = {entry.host for entry in origins.named}
        self._parents = {entry.host for entry in origins.wildcards}
        self._checked: str | None = None  # the Host that was found to be ours last: most clients send the same

    def check(self, host: str | None) -> None:
        """Raises Refusal `misdirected` for a `Host` that is not this server's. None passes: `heads` refuses it."""
        if host is None or not self._is_open or host == self._checked:
            return
        meant = read_origin(f"http://{host}")
        if meant is None or not self._is_ours(meant.host):
            raise Refusal("misdirected", "this server is not meant by that Host; add its origin to http.origins")
        self._checked = host

    def _is_ours(self, name: str) -> bool:
        if is_loopback_name(name) or name.strip("[]") == self._listening or name in self._hosts:
            return True
        return "*." + name.partition(".")[2] in self._parents

    def guard(self, app: ASGIApp) -> ASGIApp:
        """Returns the application behind the rule; where any name is allowed, the application itself."""
        if not self._is_open:
            return app

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                host = dict(scope["headers"]).get(b"host")
                try:
                    self.check(None if host is None else host.decode("latin-1"))
                except Refusal as refusal:
                    status, headers, body = problem_of(refusal)
                    await send({"type": "http.response.start", "status": status, "headers": headers})
                    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
                    return
            await app(scope, receive, send)

        return guarded

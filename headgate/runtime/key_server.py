"""Gets the keys of a key server over HTTP, in a thread of its own: bounded in size and time, without redirects."""

import asyncio
import contextlib
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from typing import Any, Final

from headgate.runtime.jwks import BadKeySet

FETCH_S: Final = 5.0
MAX_BYTES: Final = 256 * 1024  # a set of 100 large RSA keys has about 100 KiB
_PIECE_BYTES: Final = 16 * 1024


class KeyServer:
    """One URL. An instance is the `fetch` of `headgate.runtime.jwks.JwksKeys`."""

    def __init__(self, url: str, *, timeout_s: float = FETCH_S) -> None:
        self._request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - a setting: http or https
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirects())
        self._thread: threading.Thread | None = None

    async def __call__(self) -> bytes:
        """Returns the body of the answer. Raises OSError, TimeoutError, BadKeySet.

        A name server may hold the thread longer than any timeout of ours: then it is left alone, it does not hold up
        the end of the process, and no second one is started.
        """
        if self._thread is not None and self._thread.is_alive():
            raise TimeoutError("the last request has not ended yet")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(loop, answer), name="key server", daemon=True)
        self._thread.start()
        async with asyncio.timeout(self._timeout_s):
            return await answer

    def _run(self, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[bytes]") -> None:
        body, error = b"", None
        try:
            body = self._get(time.monotonic() + self._timeout_s)
        except (OSError, BadKeySet) as failure:
            error = failure
        except (HTTPException, ValueError) as failure:
            error = OSError(f"{type(failure).__name__}: {failure}")
        with contextlib.suppress(RuntimeError):  # the loop may be closed
            loop.call_soon_threadsafe(_settle, answer, body, error)

    def _get(self, deadline: float) -> bytes:
        try:
            response: HTTPResponse = self._opener.open(self._request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            raise BadKeySet(f"the key server answered {error.code}") from None
        with response:
            body = b""
            while piece := response.read1(_PIECE_BYTES):
                body += piece
                if len(body) > MAX_BYTES:
                    raise BadKeySet(f"the answer has more than {MAX_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the answer is not complete after {self._timeout_s:g} s")
            return body


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows none: the keys come from where the operator says, or not at all."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuses the redirect: the answer itself becomes the error."""
        return


def _settle(answer: "asyncio.Future[bytes]", body: bytes, error: Exception | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(body)
    else:
        answer.set_exception(error)

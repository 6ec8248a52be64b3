"""The files of one page, read once and served from memory: nothing beside them can be reached."""

from pathlib import Path
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.answers import Header
from headgate.runtime.http.problem import problem_of

CONTENT_TYPES: Final = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
FIRST: Final = "index.html"

# The page may run and show only what comes from here, may talk to this server only, and no text becomes HTML or code.
POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_SAFE: Final = (
    (b"content-security-policy", POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_METHODS: Final = ("GET", "HEAD")


class _File(NamedTuple):
    content_type: bytes
    body: bytes


class PageFiles:
    """The files of a folder whose endings have a content type, each at its name; `index.html` is at `/`.

    Folders in it and other files are not served. What all answers of the port have (`answers.ALWAYS`) the server adds.
    """

    def __init__(self, folder: Path) -> None:
        """Reads them. Raises OSError."""
        self._files = {
            b"/" + (b"" if file.name == FIRST else file.name.encode()): _File(kind, file.read_bytes())
            for file in folder.iterdir()
            if (kind := CONTENT_TYPES.get(file.suffix)) is not None
        }

    @property
    def paths(self) -> list[str]:
        """The paths that are served, sorted."""
        return sorted(path.decode() for path in self._files)

    def before(self, app: ASGIApp) -> ASGIApp:
        """Returns an application that serves the files, and gives every other path to `app`."""

        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            file = self._files.get(scope["raw_path"]) if scope["type"] == "http" else None
            if file is None:
                await app(scope, receive, send)
                return
            status, headers, body = _answer(file, scope["method"])
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

        return served


def _answer(file: _File, method: str) -> tuple[int, list[Header], bytes]:
    if method not in _METHODS:
        return problem_of(Refusal("method_not_allowed", f"this path takes {', '.join(_METHODS)}", allow=_METHODS))
    about = [(b"content-type", file.content_type), (b"content-length", b"%d" % len(file.body))]
    return 200, [*about, *_SAFE], file.body

"""TLS of the links: both ends show a certificate of the cluster's authority, read anew when its files change."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from headgate.core.wire.errors import HeadgateError
from headgate.runtime.renewed_files import RenewedFiles

NO_TLS: Final = "it does not speak TLS; cluster.tls must be set on all services or on none"
NO_PLAIN: Final = "it does not answer in plain text; cluster.tls must be set on all services or on none"
AFTER_HANDSHAKE: Final = (
    "it ended the connection after the TLS handshake; if it refuses our certificate, its log says why"
)
_NOT_TLS: Final = frozenset(("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_EOF_WHILE_READING"))

_UNKNOWN_AUTHORITY: Final = frozenset((7, 18, 19, 20, 21))  # X509_V_ERR_* of openssl-verification-options(1)


class BadTlsFiles(HeadgateError):
    """The files of `cluster.tls` cannot be used; the message is one line that names the setting and the file."""


class TlsFiles(NamedTuple):
    """PEM files: the authority that signed every certificate of the cluster, our certificate, and its private key.

    `key` None: the key is in `certificate`. `server_name` is the name that a dispatcher's certificate must carry; None:
    the host that is connected to.
    """

    ca: Path
    certificate: Path
    key: Path | None = None
    server_name: str | None = None


class LinkTls:
    """Makes the TLS contexts of both ends. A new connection uses the files as they are on disk then."""

    def __init__(self, files: TlsFiles) -> None:
        """Reads the files. Raises BadTlsFiles."""
        self._files = files
        paths = [path for path in (files.ca, files.certificate, files.key) if path is not None]
        self._contexts = RenewedFiles(paths, lambda: _contexts(files), "links", (BadTlsFiles,))

    def client(self) -> ssl.SSLContext:
        """Returns the context of a connection to a dispatcher. It checks the dispatcher's certificate and its name."""
        return self._contexts.current()[ssl.PROTOCOL_TLS_CLIENT]

    def name_of(self, host: str) -> str:
        """Returns the name that the certificate of the dispatcher at `host` must carry."""
        return self._files.server_name or host.strip("[]")

    def server(self, refused: Callable[[str], None]) -> ssl.SSLContext:
        """Returns the context to listen with. Each handshake continues with the files as they are then.

        `refused` gets one sentence for each failed handshake: asyncio logs none and does not tell the far end why.
        """
        context = _context(self._files, ssl.PROTOCOL_TLS_SERVER)

        class Telling(ssl.SSLObject):
            def do_handshake(self) -> None:
                try:
                    super().do_handshake()
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    raise
                except ssl.SSLError as error:
                    refused(tls_fault(error) or "TLS failed")
                    raise

        context.sslobject_class = Telling

        def current(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self._contexts.current()[ssl.PROTOCOL_TLS_SERVER]

        context.sni_callback = current  # called without a name too
        return context


def tls_fault(error: BaseException) -> str | None:
    """Returns one sentence where TLS is why a connection to a dispatcher failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _refused(cause)
        if isinstance(cause, ssl.SSLError):
            return _sentence(cause)
        if isinstance(cause, ConnectionResetError):
            return NO_TLS
        cause = cause.__cause__ or cause.__context__
    return None


def _refused(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return (
            f"its certificate is refused: it is not signed by an authority in cluster.tls.ca ({error.verify_message})"
        )
    return f"its certificate is refused: {error.verify_message.rstrip('.')}"


def _sentence(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if reason in _NOT_TLS:
        return NO_TLS
    return f"TLS failed: {reason.replace('_', ' ').lower() or error}"


def _contexts(files: TlsFiles) -> dict[int, ssl.SSLContext]:
    """Returns the contexts of both sides. Raises BadTlsFiles."""
    return {side: _context(files, side) for side in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)}


def _context(files: TlsFiles, side: int) -> ssl.SSLContext:
    """Returns a context of one side that demands the far end's certificate. Raises BadTlsFiles."""
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(files.ca)
    except (OSError, ValueError) as error:
        raise BadTlsFiles(f"cluster.tls.ca {files.ca}: {_why(error, 'no certificate in PEM form')}") from None
    try:
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")  # None would ask the terminal
    except (OSError, ValueError) as error:
        raise BadTlsFiles(_chain_fault(files, error)) from None
    return context


def _chain_fault(files: TlsFiles, error: Exception) -> str:
    reason = getattr(error, "reason", None)
    certificate, key = files.certificate, files.key
    if reason == "KEY_VALUES_MISMATCH":
        return (
            f"cluster.tls.key {key or files.certificate} is not the key of cluster.tls.certificate {files.certificate}"
        )
    if isinstance(error, ssl.SSLError):
        where = f"cluster.tls.key {key}" if key else "cluster.tls.key is not set and it"
        return (
            f"cluster.tls.certificate {certificate}: no certificate in PEM form, or {where} has no private key "
            "without a password"
        )
    for name, path in (("certificate", certificate), ("key", key)):
        if path is not None and not path.is_file():
            return f"cluster.tls.{name} {path}: {_why(error, 'no file')}"
    return f"cluster.tls.certificate {certificate}: {error}"


def _why(error: Exception, otherwise: str) -> str:
    return error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else otherwise  # type: ignore[return-value]

"""Checks of certificates in PEM files: whether they can be used, and until when."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography import x509

from headgate.runtime.findings import Finding, fail, ok, warn
from headgate.runtime.links.tls import BadTlsFiles, LinkTls, TlsFiles
from headgate.runtime.settings_model import SecuritySettings

SOON_DAYS: Final = 30  # a monthly round of renewals does not miss it
DAY_S: Final = 86_400.0


def check_link_files(files: TlsFiles | None, now_s: float) -> Iterator[Finding]:
    """Checks the files of `cluster.tls`; `now_s` is Unix seconds."""
    if files is None:
        return
    try:
        LinkTls(files)
    except BadTlsFiles as error:
        yield fail("cluster.tls", str(error), "give the files of this service's certificate, its key and the authority")
        return
    yield check_certificate("cluster.tls.certificate", files.certificate, now_s)
    yield check_certificate("cluster.tls.ca", files.ca, now_s)


def check_log_files(security: SecuritySettings, now_s: float) -> Iterator[Finding]:
    """Checks the files of `log.security`."""
    for name in ("ca", "certificate"):
        path: Path | None = getattr(security, name)
        if path is not None:
            yield check_certificate(f"log.security.{name}", path, now_s)


def check_certificate(name: str, path: Path, now_s: float) -> Finding:
    """Checks how long the certificates in a file are good."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no certificate in PEM form"
        return fail(name, f"{path}: {why}", f"put the PEM file there, or change {name}")
    first = min(found, key=lambda each: each.not_valid_after_utc)
    begins = max(each.not_valid_before_utc for each in found)
    left_s = first.not_valid_after_utc.timestamp() - now_s
    until = _day(first.not_valid_after_utc)
    renew = "put a new certificate in its place; the services read it without a restart"
    if begins.timestamp() > now_s:
        return fail(name, f"{path} is not good before {_day(begins)}", "check the clock of this machine, and the file")
    if left_s <= 0:
        return fail(name, f"{path} has expired on {until}", renew)
    if left_s < SOON_DAYS * DAY_S:
        return warn(name, f"{path} expires on {until}, in {left_s / DAY_S:.0f} days", renew)
    return ok(name, f"good until {until}")


def _day(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%d")

"""Checks the environment for variables that look like a setting and are not read."""

from collections.abc import Iterator, Mapping
from typing import Final

from headgate.runtime.findings import Finding, warn
from headgate.runtime.settings import ENV_PREFIX, NAMES, SECRET_FILES

_BY_SHORT: Final = {name.upper().replace(".", "_"): name for name in (*NAMES, *SECRET_FILES)}
_OF_KUBERNETES: Final = "tcp://"  # for a service headgate-ingest it sets HEADGATE_INGEST_PORT=tcp://...


def check_variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Finds HEADGATE_AUTH_SECRET, with one underscore where two belong: without a word it is not read."""
    for key, value in sorted(environ.items()):
        name = _BY_SHORT.get(key.removeprefix(ENV_PREFIX)) if key.startswith(ENV_PREFIX) else None
        if name is not None and not value.startswith(_OF_KUBERNETES):
            right = ENV_PREFIX + name.upper().replace(".", "__")
            yield warn(f"environment.{key}", f"it is not read: {name} is set by {right}", f"call it {right}")

"""What is made from files on disk, and made again when they have changed: certificates are renewed while we run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")


class RenewedFiles(Generic[T]):
    """`make` makes the value from the files. While it raises one of `faults`, the value before stays in use."""

    def __init__(
        self,
        paths: Sequence[Path],
        make: Callable[[], T],
        logger_name: str,
        faults: tuple[type[Exception], ...] = (OSError, ValueError),  # TLS faults are OSErrors
    ) -> None:
        """Makes the first value; raises what `make` raises."""
        self._paths = paths
        self._make = make
        self._faults = faults
        self._logger_name = logger_name
        self._stamp = self._found()
        self._refused: object = None  # the files that could not be used: they are said once
        self._value = make()

    def current(self) -> T:
        """Returns the value of the files as they are now. It looks at the files, and blocks for as long."""
        stamp, logger = self._found(), structlog.get_logger(self._logger_name)
        if stamp in (self._stamp, self._refused):
            return self._value
        try:
            self._value = self._make()
        except self._faults as error:
            self._refused = stamp
            logger.error("the new TLS files cannot be used; the ones before stay in use", why=str(error))
            return self._value
        self._stamp, self._refused = stamp, None
        logger.info("TLS files were read again", certificate=", ".join(map(str, self._paths)))
        return self._value

    def _found(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Returns inode, size and time of change of each file, None for one that is not there."""
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns

"""The folder of index files, used by one process at a time; knows no index."""

import errno
import fcntl
import os
from pathlib import Path


class IndexFolder:
    """Holds the folder's lock, which dies with the process."""

    def __init__(self, path: Path) -> None:
        """Makes and locks the folder. Raises OSError when another process has it."""
        path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(path / "index.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            text = f"{path} is used by another process; give each dispatcher a folder of its own (dispatcher.data)"
            raise OSError(errno.EBUSY, text) from None

    def release(self) -> None:
        """Gives the folder back."""
        os.close(self._lock)

"""The keys file as a running server sees it: read again when it changes, and the last good one kept when it breaks."""

import os
from collections.abc import Callable
from pathlib import Path

from serving.errors import ConfigError
from serving.guard import metrics
from serving.keys import Key, digest, read_keys
from serving.log import log

CHECK_SECONDS = 1.0  # half of the 2 s in which a change takes effect
Stamp = tuple[int, int, int]


class KeyFile:
    """Looks keys up. Raises ConfigError when the file cannot be used at start; later it says so and goes on."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.path = path
        self.clock = clock
        self.checked_at = clock()
        self.stamp = self._stamp()
        self.keys = self._load()

    def find(self, secret: str) -> Key | None:
        """The key that a secret belongs to, expired or not.

        Only hashes are compared, so the time it takes tells nothing about a key that the asker does not have.
        """
        if self.clock() - self.checked_at >= CHECK_SECONDS:
            self.checked_at = self.clock()
            self._refresh()
        return self.keys.get(digest(secret))

    def _refresh(self) -> None:
        """Read the file if it is another one than before. A broken one is reported once."""
        stamp = self._stamp()
        if stamp == self.stamp:
            return
        self.stamp = stamp
        try:
            self.keys = self._load()
        except ConfigError as error:
            metrics.KEYS_FILE_BROKEN.set(1)
            log(f"{error}. The keys of before stay in force.")
        else:
            log(f"keys file {self.path}: changed, {len(self.keys)} keys are in force")

    def _load(self) -> dict[str, Key]:
        keys = {key.hash: key for key in read_keys(self.path)}
        metrics.KEYS_FILE_BROKEN.set(0)
        return keys

    def _stamp(self) -> Stamp | None:
        """What changes whenever the file does; None while there is no file."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

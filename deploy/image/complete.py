"""What of a lock an engine image still needs: `complete.py LOCK ENGINE PINNED…` prints that part of the lock.

An upstream engine image brings its own build of the engine and of what that needs: these stay as they are. Added is
what it lacks, and what is PINNED at another version there. An engine of another version than the lock's is an error.
"""

import importlib.metadata
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ENTRY = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)")


def entries(lock: str) -> Iterator[tuple[str, str, str]]:
    """(name, version, text with its hashes) of each package in a lock with hashes."""
    for block in re.split(r"(?m)^(?=[A-Za-z0-9])", lock):
        if found := ENTRY.match(block):
            yield found[1], found[2], block.rstrip() + "\n"


def normal(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def to_install(lock: str, engine: str, pinned: Sequence[str], installed: Mapping[str, str]) -> str:
    """The lock's entries to install, `installed` being what there is. Raises ValueError for another engine version."""
    forced = {normal(name) for name in pinned}
    chosen = []
    for name, version, text in entries(lock):
        have = installed.get(normal(name), "")
        if normal(name) == normal(engine):
            # A local label such as +cu129 says how it was built, not what it is.
            if have.partition("+")[0] != version:
                raise ValueError(f"this image has {engine} {have or '(none)'}: expected {version}, as the lock says")
        elif not have or (normal(name) in forced and have != version):
            chosen.append(text)
    return "".join(chosen)


def main() -> None:
    """Print the entries for the Python that runs this; fails where the engine is another one."""
    lock, engine, *pinned = sys.argv[1:]
    found = {normal(item.metadata["Name"]): item.version for item in importlib.metadata.distributions()}
    try:
        print(to_install(Path(lock).read_text(encoding="utf-8"), engine, pinned, found), end="")
    except ValueError as error:
        sys.exit(f"{sys.argv[0]}: {error}")


if __name__ == "__main__":
    main()

"""Known weaknesses of what the locks pin, from a folder of advisories, without a network.

    git clone --depth 1 https://github.com/pypa/advisory-database
    .venv/bin/python requirements/audit.py advisory-database

The folder holds advisories in OSV's format, as YAML or JSON: a checkout of PyPA's database, or
https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip unpacked. With a network, the same question without a
folder: `pip-audit --disable-pip --require-hashes -r requirements/cpu.txt`. Exit codes: 0 nothing is known, 1 something
is, 2 the folder or a lock cannot be read.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

HERE = Path(__file__).parent
LOCKS = tuple(HERE / f"{name}.txt" for name in ("cpu", "cuda", "dev", "examples"))
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
# PyTorch's CPU build stands in no lock; its version is the Makefile's.
TORCH = re.compile(r"^TORCH_CPU := (torch)==([\d.]+)", re.MULTILINE)
NAMES = re.compile(r"""["']?name["']?: *["']?([A-Za-z0-9._-]+)""")
Advisory = Mapping[str, Any]
Pins = dict[str, dict[str, set[str]]]


@dataclass(frozen=True, order=True)
class Finding:
    """A pinned version that an advisory names. `fixed`: versions that are not affected any more, if there are any."""

    package: str
    version: str
    advisory: str
    fixed: str
    locks: str

    def __str__(self) -> str:
        return f"{self.package} {self.version} ({self.locks}): {self.advisory}, fixed in {self.fixed or 'no version'}"


def pins(locks: Iterable[Path]) -> Pins:
    """Package to version to the names of the locks that pin it. Raises OSError."""
    found: Pins = {}
    texts = [(lock.stem, PIN, lock.read_text(encoding="utf-8")) for lock in locks]
    for name, pattern, text in [*texts, ("cpu", TORCH, (HERE.parent / "Makefile").read_text(encoding="utf-8"))]:
        for package, version in pattern.findall(text):
            found.setdefault(canonicalize_name(package), {}).setdefault(version, set()).add(name)
    return found


def advisories(folder: Path, packages: Iterable[str]) -> Iterator[Advisory]:
    """The advisories in a folder that are about one of these packages. Others are not parsed."""
    wanted = set(packages)
    for file in sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml", ".json")):
        text = file.read_text(encoding="utf-8")
        if wanted.isdisjoint(canonicalize_name(name) for name in NAMES.findall(text)):
            continue
        found = (
            json.loads(text) if file.suffix == ".json" else yaml.load(text, Loader=yaml.CBaseLoader)
        )  # all text: no 1.10 becomes 1.1
        if isinstance(found, dict) and "affected" in found and not found.get("withdrawn"):
            yield found


def affects(affected: Mapping[str, Any], version: Version) -> bool:
    """Whether a version is listed, or lies in a range. Commits are not looked at."""
    if any(Version(text) == version for text in affected.get("versions", ()) if valid(text)):
        return True
    return any(within(events, version) for events in ranges(affected))


def within(events: Iterable[Mapping[str, str]], version: Version) -> bool:
    """Whether the last event at or before a version leaves it affected."""
    inside = False
    for kind, text in sorted(((k, v) for event in events for k, v in event.items()), key=place):
        at = Version(text) if valid(text) else Version("0")
        if kind == "introduced" and version >= at:
            inside = True
        elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            inside = False
    return inside


def place(event: tuple[str, str]) -> tuple[Version, bool]:
    """By version; at the same one, what was introduced there comes last."""
    return Version(event[1]) if valid(event[1]) else Version("0"), event[0] == "introduced"


def valid(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def fixes(affected: Mapping[str, Any], version: Version) -> str:
    """Versions above this one in which it is mended."""
    texts = {event["fixed"] for events in ranges(affected) for event in events if "fixed" in event}
    return ", ".join(sorted((text for text in texts if valid(text) and Version(text) > version), key=Version))


def ranges(affected: Mapping[str, Any]) -> list[list[Mapping[str, str]]]:
    """The events of each range of versions."""
    return [found["events"] for found in affected.get("ranges", ()) if found.get("type") == "ECOSYSTEM"]


def audit(found: Iterable[Advisory], pinned: Pins) -> list[Finding]:
    """Every pin that an advisory names."""
    findings = set()
    for advisory in found:
        names = " = ".join([str(advisory["id"]), *sorted(advisory.get("aliases", ()))])
        for affected in advisory["affected"]:
            package = affected.get("package", {})
            if package.get("ecosystem") != "PyPI":
                continue
            name = canonicalize_name(package["name"])
            for version, locks in pinned.get(name, {}).items():
                if affects(affected, Version(version)):
                    fixed = fixes(affected, Version(version))
                    findings.add(Finding(name, version, names, fixed, ", ".join(sorted(locks))))
    return sorted(findings)


def main(argv: list[str]) -> int:
    """Print what is known and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="advisories in OSV's format")
    parser.add_argument("locks", type=Path, nargs="*", default=LOCKS, metavar="LOCK", help="default: all of them")
    args = parser.parse_args(argv)
    try:
        pinned = pins(args.locks)
        found = list(advisories(args.folder, pinned))
    except (OSError, ValueError, yaml.YAMLError) as error:
        print(f"audit: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    if not found:
        print(f"audit: {args.folder}: no advisory about any pinned package: expected OSV's files", file=sys.stderr)
        return 2
    findings = audit(found, pinned)
    print("\n".join(map(str, findings)) or "Nothing is known against what is pinned.")
    newest = max(str(advisory.get("published", "")) for advisory in found)[:10]
    print(f"{len(pinned)} packages, {len(found)} advisories about them, the newest of {newest}.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The page at /: chat and live status. Static files, served as they lie here; there is no build step.

Small ES modules, one idea each; `app.js` is where they meet. Nothing comes from another host, and no text of a model is
ever read as HTML: `markdown.js` builds elements and puts text into them.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
NAMES = sorted(file.name for file in files(__name__).iterdir() if file.name.rpartition(".")[2] in TYPES)
PATHS = {"/": "index.html", "/favicon.ico": "icon.svg", **{f"/page/{name}": name for name in NAMES}}


@dataclass(frozen=True)
class Asset:
    """One file of the page. `etag` changes with its content."""

    content: bytes
    type: str
    etag: str


def load() -> dict[str, Asset]:
    """The page's files by the path under which they are served."""
    assets = {name: read(name) for name in NAMES}
    return {path: assets[name] for path, name in PATHS.items()}


def read(name: str) -> Asset:
    """One file out of the package."""
    content = files(__name__).joinpath(name).read_bytes()
    return Asset(content, TYPES[name.rpartition(".")[2]], f'"{hashlib.sha256(content).hexdigest()[:16]}"')

"""A server that asks for keys, as one that others use does."""

from dataclasses import dataclass
from pathlib import Path

from serving.keys import Key, add, digest
from tests.server_process import ServerProcess

KEYS = (
    Key("full", digest(""), scopes=("inference", "metrics")),
    Key("plain", digest("")),
    Key("once", digest(""), requests_per_minute=1),
)


@dataclass
class RealServer:
    """The demo model behind keys. `secrets` are those of KEYS by name."""

    process: ServerProcess
    secrets: dict[str, str]

    @property
    def url(self) -> str:
        return self.process.url


def with_keys(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments of `xuanyuan serve`, with a file of KEYS in the folder, and the secrets by name."""
    secrets = {key.name: add(folder / "keys.json", key) for key in KEYS}
    return ["--keys-file", str(folder / "keys.json"), "--max-tokens", "2000", "--log-format", "none"], secrets

"""What examples/README.md says: one command for each client."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
# The second column of the table of clients.
ROW = re.compile(r"^\|[^|]+\| `((?:python|node|bash) [^`]+)` \|", re.MULTILINE)


def commands() -> list[str]:
    """The commands of the table, as they stand there."""
    return ROW.findall((EXAMPLES / "README.md").read_text(encoding="utf-8"))


def programs() -> list[Path]:
    """The files that a client is shown in."""
    return sorted(path for pattern in ("*.py", "*.sh", "javascript/*.js") for path in EXAMPLES.glob(pattern))

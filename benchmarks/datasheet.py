"""What a GPU's datasheet says of its memory, beside what was measured."""

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from benchmarks.systems import ROOT

# The launcher's table, read as data: one row a card, named MODEL or MODEL-SIZE.
TABLE = ROOT / "serving" / "gpus.toml"
# A card of another size is another card: an H100 NVL is not an H100-80G.
SAME_MEMORY = 0.1
MIB = 1024**2


def datasheet_gb_s(limits: Mapping[str, Any]) -> float | None:
    """GB/s of the card that the ceilings were measured on; None for a CPU and for a card that is not in the table."""
    words = re.findall(r"[A-Za-z0-9]+", limits.get("device_name", "").upper())
    for name, row in tomllib.loads(TABLE.read_text(encoding="utf-8")).items():
        model = re.sub(r"-\d+G$", "", name).split("-")
        size = row["memory_mib"] * MIB
        if all(word in words for word in model) and abs(limits["device_memory"] / size - 1) < SAME_MEMORY:
            return float(row["bandwidth_gbs"])
    return None

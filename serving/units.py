"""Sizes as people write them. 1 GiB = 1024^3 bytes; 1 GB = 10^9 bytes."""

import re

from serving.errors import ConfigError

MIB = 1024**2
GIB = 1024**3
UNITS = {
    "": 1,
    "KIB": 1024,
    "MIB": MIB,
    "GIB": GIB,
    "TIB": 1024**4,
    # Kubernetes writes Ki, Mi, Gi.
    "KI": 1024,
    "MI": MIB,
    "GI": GIB,
    "TI": 1024**4,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
}


def parse_bytes(text: str, key: str) -> int:
    """Bytes of a size like "24GiB", "24Gi", "512 MiB" or "1.5GB"; a bare number is bytes.

    Raises ConfigError naming `key`, the text and what was expected.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise ConfigError(f'{key}: "{text}" is not a size; write it like 24GiB, 512MiB or 1.5GB')
    return int(float(match[1]) * unit)


def format_bytes(count: int) -> str:
    """A size in GiB or, below one tenth of it, in MiB: "11.9 GiB", "96 MiB"."""
    if abs(count) >= GIB // 10:
        return f"{count / GIB:.1f} GiB"
    return f"{count / MIB:.0f} MiB"

"""The header of a safetensors file: which tensors it holds. The tensors themselves are not read.

The format (https://huggingface.co/docs/safetensors): 8 bytes with the length n of the header, little-endian; n bytes of
JSON, `{"name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [begin, end]}, …, "__metadata__": {text: text}}`; then
the tensors' bytes, without gaps or overlaps, to the end of the file. Refused is what the library `safetensors` refuses.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from reprlib import repr as short
from typing import Any, TypeGuard

from serving.errors import CheckpointError
from serving.json_files import parse_object, refuse_lfs_pointer

# The format's own limit; it also bounds the memory that a hostile file can make us take.
HEADER_LIMIT = 100_000_000
RANK_LIMIT = 64
DTYPE_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}


@dataclass(frozen=True)
class TensorInfo:
    """A stored tensor: its dtype in safetensors' words ("F16", "I32", …), its shape, and its size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file by name. Raises CheckpointError for a damaged, cut or hostile file."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(64)
            refuse_lfs_pointer(path, start)
            if len(start) < 8:
                raise CheckpointError(
                    f"{path}: {size} bytes; a safetensors file has at least 8: the download was cut short"
                )
            length = int.from_bytes(start[:8], "little")
            if length > HEADER_LIMIT:
                raise CheckpointError(f"{path}: not a safetensors file: its header would have {length:,} bytes")
            if 8 + length > size:
                raise CheckpointError(f"{path}: cut short: {size:,} bytes, and its header alone ends at {8 + length:,}")
            file.seek(8)
            header = parse_object(file.read(length), f"{path}: header")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    return parse_header(header, size - 8 - length, path)


def parse_header(header: dict[str, Any], data_bytes: int, path: Path) -> dict[str, TensorInfo]:
    """The tensors that a header describes, checked against the number of bytes that follow it."""
    _check_metadata(header.pop("__metadata__", None), path)
    spans = {name: _offsets(name, fields, path) for name, fields in header.items()}
    tensors = {name: _tensor(name, header[name], end - begin, path) for name, (begin, end) in spans.items()}
    position = 0
    for name, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        if begin != position:
            what = "overlaps the tensor before it" if begin < position else "leaves a gap before it"
            raise CheckpointError(f'{path}: header: tensor "{name}" at bytes {begin:,} to {end:,} {what}')
        position = end
    if data_bytes < position:
        raise CheckpointError(
            f"{path}: cut short: its header describes {position:,} bytes of tensors and {data_bytes:,} are there; "
            "fetch it again"
        )
    if data_bytes > position:
        raise CheckpointError(f"{path}: {data_bytes - position:,} bytes follow the last tensor; the file is damaged")
    return tensors


def _check_metadata(metadata: object, path: Path) -> None:
    texts = isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    if metadata is not None and not texts:
        raise CheckpointError(f"{path}: header: __metadata__ = {short(metadata)}; expected texts by name")


def _offsets(name: str, fields: object, path: Path) -> tuple[int, int]:
    """Begin and end of a tensor's bytes, counted from the end of the header."""
    offsets = fields.get("data_offsets") if isinstance(fields, dict) else None
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(
            f'{path}: header: tensor "{name}": data_offsets = {short(offsets)}; expected [begin, end]'
        )
    return offsets[0], offsets[1]


def _tensor(name: str, fields: dict[str, Any], size: int, path: Path) -> TensorInfo:
    dtype, shape = fields.get("dtype"), fields.get("shape")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise CheckpointError(
            f'{path}: header: tensor "{name}": dtype = {short(dtype)} is not one of {", ".join(DTYPE_BITS)}'
        )
    if not _are_counts(shape):
        raise CheckpointError(f'{path}: header: tensor "{name}": shape = {short(shape)}; expected whole numbers')
    if prod(shape) * DTYPE_BITS[dtype] != size * 8:
        raise CheckpointError(
            f'{path}: header: tensor "{name}": {dtype} {short(shape)} does not take the {size:,} bytes it has'
        )
    return TensorInfo(dtype, tuple(shape), size)


def _are_counts(value: object) -> TypeGuard[list[int]]:
    """Whether it is a list of whole numbers from 0, few and small enough to multiply; True and False are none."""
    return (
        isinstance(value, list)
        and len(value) <= RANK_LIMIT
        and all(type(item) is int and 0 <= item < 2**64 for item in value)
    )

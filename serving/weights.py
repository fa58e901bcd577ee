"""A checkpoint's weight files: which they are, and what their headers hold. No tensor is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.errors import CheckpointError
from serving.json_files import read_json, refuse_lfs_pointer
from serving.safetensors_header import TensorInfo, read_header

INDEX = "model.safetensors.index.json"
PICKLED_INDEX = "pytorch_model.bin.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth")
# What a trainer leaves beside the weights; vLLM leaves these out too (filter_files_not_needed_for_inference).
NOT_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")
# How far an index's total_size may lie above what is there: some tools count buffers that are not stored.
TOTAL_SIZE_SLACK = 0.01


def shards(folder: Path) -> list[Path]:
    """The safetensors files that vLLM would load: those of the index or, without one, all. They may be missing."""
    return _indexed(folder, _read_index(folder / INDEX)) or sorted(folder.glob("*.safetensors"))


def pickles(folder: Path) -> list[Path]:
    """The weight files that are Python pickles. Those that an index names may be missing."""
    found = {path for pattern in PICKLES for path in folder.glob(pattern) if path.name not in NOT_WEIGHTS}
    return _indexed(folder, _read_index(folder / PICKLED_INDEX)) or sorted(found)


def read_tensors(folder: Path) -> dict[str, TensorInfo]:
    """The tensors of all shards by name; {} without shards. Raises CheckpointError for damaged or missing ones."""
    index = _read_index(folder / INDEX)
    files = _indexed(folder, index) or sorted(folder.glob("*.safetensors"))
    _require(files, folder)
    headers = {path.name: read_header(path) for path in files}
    if index:
        _check_index(index, headers, folder / INDEX)
    tensors: dict[str, TensorInfo] = {}
    for name, header in headers.items():
        if twice := tensors.keys() & header.keys():
            raise CheckpointError(f"{folder / name}: tensor {min(twice)} is in another file too; remove the wrong one")
        tensors |= header
    return tensors


def refuse_pickles(folder: Path, allow_pickle: bool) -> None:
    """For a folder without safetensors: raise CheckpointError unless it has pickled weights and they are allowed."""
    files = pickles(folder)
    if not files:
        raise CheckpointError(f"{folder}: no weights (*.safetensors) in it; fetch the checkpoint again")
    if not allow_pickle:
        raise CheckpointError(
            f"{folder}: its weights are pickles ({_some(files)}), which can run code when they are loaded; "
            "give --allow-pickle if you trust who made them, or use a copy as safetensors"
        )
    _require(files, folder)
    for path in files:
        with path.open("rb") as file:
            refuse_lfs_pointer(path, file.read(64))


def _require(files: list[Path], folder: Path) -> None:
    # A snapshot in a hub's cache holds links; one that leads nowhere is a missing file too.
    if missing := [path for path in files if not path.is_file()]:
        raise CheckpointError(f"{folder}: weight files are missing: {_some(missing)}; fetch the checkpoint again")


def _read_index(file: Path) -> dict[str, Any]:
    """An index, its weight_map (tensor name to file name) checked; {} where there is none."""
    if not file.exists():
        return {}
    index = read_json(file)
    names = index.get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{file}: weight_map is missing; expected file names by tensor name")
    for name in names.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{file}: {name!r} is not the name of a file in the same folder")
    return index


def _indexed(folder: Path, index: Mapping[str, Any]) -> list[Path]:
    return [folder / name for name in sorted(set(index.get("weight_map", {}).values()))]


def _check_index(index: Mapping[str, Any], headers: Mapping[str, Mapping[str, TensorInfo]], file: Path) -> None:
    """Refuse shards that hold less than the index says."""
    for name, shard in index["weight_map"].items():
        if name not in headers[shard]:
            raise CheckpointError(f"{file}: says that {shard} holds tensor {name}, and it does not; fetch both again")
    metadata = index.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    there = sum(info.bytes for header in headers.values() for info in header.values())
    if isinstance(total, int | float) and there < total * (1 - TOTAL_SIZE_SLACK):
        raise CheckpointError(f"{file}: total_size = {total:,} bytes, and the shards hold {there:,}; fetch them again")


def _some(files: list[Path]) -> str:
    """The first three names, and how many more there are."""
    names = ", ".join(path.name for path in files[:3])
    return names if len(files) <= 3 else f"{names} and {len(files) - 3} more"

"""The header parser agrees with the `safetensors` library on what is a good file, and survives whatever it is given."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from serving.errors import CheckpointError
from serving.safetensors_header import DTYPE_BITS, HEADER_LIMIT, TensorInfo, read_header

# The file is written anew for every example, so one folder for all of them is right.
any_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)

names = st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__")
shapes = st.lists(st.integers(0, 4), max_size=3)
arrays = st.builds(
    lambda shape, dtype: np.zeros(shape, dtype),
    shapes,
    st.sampled_from(["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"]),
)


def library_accepts(file: Path) -> bool:
    """Whether the reference implementation opens it."""
    try:
        with safe_open(file, "np"):
            return True
    except SafetensorError:
        return False


def we_accept(file: Path) -> bool:
    """Whether ours does; any exception but CheckpointError fails the test."""
    try:
        read_header(file)
        return True
    except CheckpointError:
        return False


def stored(header: object, data: bytes = b"") -> bytes:
    """The bytes of a file with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@any_file
@given(st.dictionaries(names, arrays, max_size=5), st.none() | st.dictionaries(st.text(), st.text(), max_size=2))
def test_what_the_library_writes_is_read_back(
    tmp_path: Path, tensors: dict[str, np.ndarray[Any, Any]], metadata: dict[str, str] | None
) -> None:
    save_file(tensors, tmp_path / "file", metadata)
    # safetensors 0.8 writes a file without tensors and with empty metadata that it cannot read itself.
    assume(tensors or metadata != {})
    header = read_header(tmp_path / "file")
    assert {name: (info.shape, info.bytes) for name, info in header.items()} == {
        name: (array.shape, array.nbytes) for name, array in tensors.items()
    }


@any_file
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_nothing_worse(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert we_accept(tmp_path / "file") == library_accepts(tmp_path / "file")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(list(DTYPE_BITS)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
nearly_tensors = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from([*DTYPE_BITS, "F17"]) | json_values,
        "shape": shapes | json_values,
        "data_offsets": st.lists(st.integers(0, 32), min_size=2, max_size=2) | json_values,
    },
)


@any_file
@given(
    st.dictionaries(names | st.just("__metadata__"), nearly_tensors | json_values, max_size=3), st.binary(max_size=32)
)
def test_headers_that_are_nearly_right_are_judged_as_the_library_does(
    tmp_path: Path, header: dict[str, Any], data: bytes
) -> None:
    (tmp_path / "file").write_bytes(stored(header, data))
    assert we_accept(tmp_path / "file") == library_accepts(tmp_path / "file")


@any_file
@given(st.data())
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    save_file({"a": np.zeros((3, 2), "float32"), "b": np.zeros(4, "int8")}, tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert not we_accept(tmp_path / "file")


@pytest.mark.parametrize("dtype", DTYPE_BITS)
def test_every_dtype_has_the_size_that_the_library_gives_it(tmp_path: Path, dtype: str) -> None:
    tensor = {"dtype": dtype, "shape": [8], "data_offsets": [0, DTYPE_BITS[dtype]]}
    (tmp_path / "file").write_bytes(stored({"a": tensor}, bytes(DTYPE_BITS[dtype])))
    assert library_accepts(tmp_path / "file")
    assert read_header(tmp_path / "file") == {"a": TensorInfo(dtype, (8,), DTYPE_BITS[dtype])}


F16 = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}
REFUSALS = {
    "shorter than a length": (b"\1\0\0", ["3 bytes", "cut short"]),
    "git-lfs pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        ["git-lfs pointer", "git lfs pull"],
    ),
    "length beyond the limit": ((HEADER_LIMIT + 1).to_bytes(8, "little"), ["not a safetensors file", "100,000,001"]),
    "length beyond the file": (stored({})[:8] + b"{", ["cut short", "header alone"]),
    "not JSON": (stored(b"{'a': 1}"), ["not valid JSON"]),
    "a list": (stored([1]), ["JSON list", "expected an object"]),
    "nested thousands deep": (stored(b'{"a":' + b"[" * 100_000), ["not valid JSON"]),
    "unknown dtype": (stored({"a": F16 | {"dtype": "Q4_1"}}, bytes(4)), ["Q4_1", "F16"]),
    "shape of another size": (stored({"a": F16 | {"shape": [3]}}, bytes(4)), ["[3]", "4 bytes"]),
    "shape beyond all bounds": (stored({"a": F16 | {"shape": [2**63] * 65}}, bytes(4)), ["shape", "whole numbers"]),
    "True for a number": (stored({"a": F16 | {"shape": [True]}}, bytes(4)), ["shape", "whole numbers"]),
    "offsets backwards": (stored({"a": F16 | {"data_offsets": [4, 0]}}, bytes(4)), ["data_offsets", "[begin, end]"]),
    "overlap": (stored({"a": F16, "b": F16 | {"data_offsets": [2, 6]}}, bytes(6)), ['"b"', "overlaps"]),
    "gap": (stored({"a": F16, "b": F16 | {"data_offsets": [6, 10]}}, bytes(10)), ['"b"', "gap"]),
    "cut data": (stored({"a": F16}, bytes(3)), ["cut short", "4 bytes", "3 are there"]),
    "bytes left over": (stored({"a": F16}, bytes(9)), ["5 bytes follow"]),
    "metadata of numbers": (stored({"__metadata__": {"a": 1}, "a": F16}, bytes(4)), ["__metadata__", "texts"]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(tmp_path: Path, name: str) -> None:
    data, words = REFUSALS[name]
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(CheckpointError) as refusal:
        read_header(tmp_path / "file")
    assert [word for word in [str(tmp_path / "file"), *words] if word not in str(refusal.value)] == []

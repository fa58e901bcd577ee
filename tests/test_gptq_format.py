"""The 4-bit format against a dequantizer written from its description, value by value."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from serving.gptq_format import GROUP_SIZE, quantize


def dequantize(tensors: dict[str, torch.Tensor]) -> NDArray[np.float32]:
    """AutoGPTQ v1: value [out, in] = (q - (stored zero + 1)) * scale of the column's group."""
    qweight, qzeros = (tensors[name].numpy().view(np.uint32) for name in ("qweight", "qzeros"))
    scales = tensors["scales"].float().numpy()
    columns, rows = qweight.shape[0] * 8, qweight.shape[1]
    values = np.empty((rows, columns), dtype=np.float32)
    for column in range(columns):
        group = int(tensors["g_idx"][column])
        levels = (qweight[column // 8] >> (4 * (column % 8))) & 15
        zeros = np.array([(qzeros[group, row // 8] >> (4 * (row % 8))) & 15 for row in range(rows)]) + 1
        values[:, column] = (levels.astype(np.int64) - zeros) * scales[group]
    return values


def random_weight(seed: int, rows: int = 24, columns: int = 192) -> torch.Tensor:
    return (torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.05).to(torch.bfloat16)


def test_the_tensors_have_the_shapes_that_the_engine_expects() -> None:
    tensors = quantize(random_weight(0))
    assert {name: (str(t.dtype), tuple(t.shape)) for name, t in tensors.items()} == {
        "qweight": ("torch.int32", (24, 24)),
        "qzeros": ("torch.int32", (3, 3)),
        "scales": ("torch.bfloat16", (3, 24)),
        "g_idx": ("torch.int32", (192,)),
    }
    assert tensors["qzeros"].numpy().view(np.uint32).tolist() == [[0x77777777] * 3] * 3
    assert all(tensor.is_contiguous() for tensor in tensors.values())


def test_values_on_the_grid_survive_exactly() -> None:
    levels = torch.randint(-8, 8, (16, 128), generator=torch.Generator().manual_seed(1))
    levels[:, ::GROUP_SIZE] = -8  # every group uses the end of its range
    scales = torch.tensor([0.25, -0.5]).repeat_interleave(GROUP_SIZE)
    weight = (levels * scales).to(torch.bfloat16)
    np.testing.assert_array_equal(dequantize(quantize(weight)), weight.float().numpy())


@pytest.mark.parametrize("seed", range(5))
def test_the_error_stays_within_half_a_step(seed: int) -> None:
    weight = random_weight(seed)
    tensors = quantize(weight)
    error = np.abs(dequantize(tensors) - weight.float().numpy())
    step = np.abs(tensors["scales"].float().numpy().T.repeat(GROUP_SIZE, axis=1))
    # Half a step, but for values of the other sign than the group's largest and nearly as large: those lack level 8.
    clipped = np.abs(weight.float().numpy()) > 7.5 * step
    assert (error <= step * 0.5001)[~clipped].all()
    assert (error <= step)[clipped].all()
    assert clipped.mean() < 0.03


def test_the_largest_value_of_a_group_survives_exactly() -> None:
    weight = random_weight(7).float().numpy().reshape(24, 3, GROUP_SIZE)
    largest = np.abs(weight).argmax(-1)[..., None]
    got = dequantize(quantize(random_weight(7))).reshape(24, 3, GROUP_SIZE)
    np.testing.assert_array_equal(np.take_along_axis(got, largest, -1), np.take_along_axis(weight, largest, -1))


def test_a_group_of_zeros_stays_zero() -> None:
    weight = random_weight(3)
    weight[:, :GROUP_SIZE] = 0
    values = dequantize(quantize(weight))
    assert np.isfinite(values).all()
    assert not values[:, :GROUP_SIZE].any()

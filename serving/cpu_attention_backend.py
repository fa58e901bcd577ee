"""vLLM's CPU attention with its vector kernel; `cpu_attention.py` says why and registers it."""

from typing import Any

from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend, CPUAttentionMetadataBuilder


class VectorAttentionMetadataBuilder(CPUAttentionMetadataBuilder):  # type: ignore[misc]
    """Chooses the vector kernel where vLLM chose AMX."""

    isa: str

    def __init__(self, kv_cache_spec: Any, layer_names: list[str], vllm_config: Any, device: Any) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        if self.isa == "amx":
            self.isa = "vec"
            self._set_isa_to_layers(layer_names)


class VectorAttentionBackend(CPUAttentionBackend):  # type: ignore[misc]
    """CPU_ATTN with the builder above."""

    @staticmethod
    def get_builder_cls() -> type[VectorAttentionMetadataBuilder]:
        """The builder that picks the kernel."""
        return VectorAttentionMetadataBuilder

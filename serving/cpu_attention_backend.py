"""vLLM's CPU attention with one call a layer; `cpu_attention.py` says why and registers it."""

from typing import Any

import torch
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend, CPUAttentionBackendImpl


class Attention(CPUAttentionBackendImpl):  # type: ignore[misc]
    """Writes keys and values into the cache itself, and then attends to it."""

    def forward(
        self,
        layer: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: Any,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        """As vLLM's. Without metadata vLLM warms up, and there is no cache to write to."""
        if attn_metadata is not None and self.kv_sharing_target_layer_name is None:
            self.do_kv_cache_update(layer, key, value, kv_cache, attn_metadata.slot_mapping)
        attended: torch.Tensor = super().forward(layer, query, key, value, kv_cache, attn_metadata, *args, **kwargs)
        return attended


class AttentionBackend(CPUAttentionBackend):  # type: ignore[misc]
    """CPU_ATTN with the attention above."""

    forward_includes_kv_cache_update = True

    @staticmethod
    def get_impl_cls() -> type[Attention]:
        """The attention that writes the cache."""
        return Attention

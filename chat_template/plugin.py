"""The entry point through which vLLM learns of this package, in each of its processes."""

from chat_template.settings import MODE


def register() -> None:
    """Register the tokenizer mode, the renderer and the reply parser with vLLM. Calling it again changes nothing."""
    from vllm.reasoning import ReasoningParserManager
    from vllm.renderers.registry import RENDERER_REGISTRY
    from vllm.tokenizers.registry import TokenizerRegistry

    if MODE in RENDERER_REGISTRY.renderers:
        return
    TokenizerRegistry.register(MODE, "vllm.tokenizers.hf", "CachedHfTokenizer")
    RENDERER_REGISTRY.register(MODE, "chat_template.renderer", "FamilyRenderer")
    ReasoningParserManager.register_lazy_module(MODE, "chat_template.reply", "FamilyReply")

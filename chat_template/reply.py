"""The answer's text, in vLLM's own place for it: a reply parser, which chat routes have and raw completions do not.

vLLM calls such a parser a reasoning parser: it may rewrite the text of an answer, whole or streamed. Ours finds no
reasoning. It stays in what vLLM takes for the reasoning phase, so that every piece of the text comes by.
"""

from collections.abc import Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.reasoning import ReasoningParser

from chat_template.metrics import SELF_TURN_STOPS
from chat_template.stop import TURN_STARTS, ReplyText


class FamilyReply(ReasoningParser):  # type: ignore[misc]
    """Trims one answer: no separator's space in front, and nothing from a self-made next turn on."""

    # vLLM then hands over each piece alone, not the whole text so far with each, and asks for the rest at the end.
    engine_based_streaming = True

    def __init__(self, tokenizer: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(tokenizer, *args, **kwargs)
        template = kwargs.get("chat_template_kwargs") or {}
        self._starts_turn = bool(
            template.get("add_generation_prompt", True) and not template.get("continue_final_message", False)
        )
        self._streamed = self._new_text()

    def adjust_request(self, request: Any) -> Any:
        """Let the engine stop at the next turn's start.

        Where nothing else depends on it the stop stays in the text for us to cut: then vLLM need not hold back the end
        of every piece, and the cut is seen and counted.
        """
        own_stops = [request.stop] if isinstance(request.stop, str) else list(request.stop or [])
        if not own_stops and not getattr(request, "stop_token_ids", None) and request.skip_special_tokens:
            request.include_stop_str_in_output = True
        request.stop = [*own_stops, *TURN_STARTS]
        return request

    def is_reasoning_end(self, input_ids: Sequence[int]) -> bool:
        """Never: see the top of this file."""
        return False

    def extract_content_ids(self, input_ids: list[int]) -> list[int]:
        """All of them: there is no reasoning."""
        return input_ids

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        """No reasoning, and the whole answer trimmed."""
        text = self._new_text()
        content = text.feed(model_output) + text.finish()
        # The responses route parses a streamed answer once more, as a whole.
        if not self._streamed.stopped:
            self._count(text)
        return None, content

    def extract_reasoning_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
    ) -> DeltaMessage | None:
        """The part of the answer that `delta_text` makes ready, if any."""
        content = self._streamed.feed(delta_text)
        return DeltaMessage(content=content) if content else None

    def finish_streaming(self) -> DeltaMessage | None:
        """What is left of the answer at its end, if any."""
        content = self._streamed.finish()
        self._count(self._streamed)
        return DeltaMessage(content=content) if content else None

    def _new_text(self) -> ReplyText:
        return ReplyText(starts_turn=self._starts_turn)

    @staticmethod
    def _count(text: ReplyText) -> None:
        if text.stopped:
            SELF_TURN_STOPS.inc()

"""The renderer behind vLLM's chat, responses, messages and tokenize routes. Raw completions pass it unchanged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vllm.entrypoints.chat_utils import ChatTemplateResolutionError
from vllm.exceptions import VLLMValidationError
from vllm.logger import init_logger
from vllm.renderers.hf import HfRenderer
from vllm.utils.async_utils import make_async

from chat_template import metrics
from chat_template.conversation import NO_TOOLS, Conversation, read_conversation
from chat_template.encode import Budget, ConversationEncoder, Rendered
from chat_template.errors import ConversationError, ForgedTurnError
from chat_template.layout import Ending
from chat_template.notices import DROPPED_PAIRS, notify
from chat_template.selfcheck import check_encoder
from chat_template.settings import CONFIG_KEY, ChatSettings

# Below vLLM's own logger, for its handler and level.
logger = init_logger("vllm.xuanyuan")

Prompt = dict[str, Any]
"""One of vLLM's prompt dictionaries."""

QUESTION = "xuanyuan_question"
"""Under this key a prompt carries its Question from vLLM's first step (messages) to its second (ids)."""


@dataclass(frozen=True)
class Question:
    """A conversation that keeps the rules, and how its prompt ends."""

    conversation: Conversation
    ending: Ending


class FamilyRenderer(HfRenderer):  # type: ignore[misc]
    """Makes the family's prompt of a conversation, exactly, with control tokens only where the template puts them."""

    def __init__(self, config: Any, tokenizer: Any) -> None:
        """Raises ValueError for unusable settings, TemplateMismatchError for a tokenizer that is not the template's."""
        super().__init__(config, tokenizer)
        self._settings = ChatSettings.from_dict(config.additional_config.get(CONFIG_KEY, {}))
        self._encoder: ConversationEncoder | None = None
        if self._settings.template != "none":
            self._encoder = ConversationEncoder(tokenizer, self._settings)
            check_encoder(self._encoder, tokenizer)
        self._render_async = make_async(self._render, executor=self._executor)

    def render_messages(
        self, messages: Sequence[Mapping[str, Any]], params: Any
    ) -> tuple[list[dict[str, str]], Prompt]:
        """vLLM's first step: read the messages by the rules. Raises what becomes HTTP 400."""
        if self._encoder is None:
            # The one error that vLLM's warm-up expects of a checkpoint without a template.
            raise ChatTemplateResolutionError(completion_only(self._settings.chat_checkpoint))
        options = params.chat_template_kwargs
        if options.get("tools"):
            raise VLLMValidationError(NO_TOOLS, parameter="tools")
        try:
            conversation = read_conversation(messages, self._settings)
        except ConversationError as error:
            if isinstance(error, ForgedTurnError):
                metrics.TURN_FORGERIES.labels("reject").inc()
            raise refusal(error) from error
        if conversation.forged:
            metrics.TURN_FORGERIES.labels(self._settings.turn_forgery).inc(len(conversation.forged))
            logger.info(
                "Turn starts typed as text in messages %s: %s", conversation.forged, self._settings.turn_forgery
            )
        ending = Ending(options.get("add_generation_prompt", True), options.get("continue_final_message", False))
        turns = [{"role": turn.role, "content": turn.text} for turn in conversation.turns]
        return turns, {QUESTION: Question(conversation, ending)}

    async def render_messages_async(
        self, messages: Sequence[Mapping[str, Any]], params: Any
    ) -> tuple[list[dict[str, str]], Prompt]:
        """As `render_messages`, which takes no time worth a thread."""
        return self.render_messages(messages, params)

    def tokenize_prompt(self, prompt: Prompt, params: Any) -> Any:
        """vLLM's second step: ids for a conversation; other prompts as vLLM does it."""
        if QUESTION in prompt:
            prompt = self._report(self._render(prompt[QUESTION], params))
        return super().tokenize_prompt(prompt, params)

    async def tokenize_prompt_async(self, prompt: Prompt, params: Any) -> Any:
        """As `tokenize_prompt`, with the encoding in the thread that vLLM keeps for it."""
        if QUESTION in prompt:
            prompt = self._report(await self._render_async(prompt[QUESTION], params))
        return await super().tokenize_prompt_async(prompt, params)

    def _render(self, question: Question, params: Any) -> Rendered:
        """The prompt for `question`. `params` are vLLM's TokenizeParams. Raises what becomes HTTP 400."""
        assert self._encoder is not None
        try:
            # No limit: the tokenize route. A request's own cut: vLLM makes it, on the ids.
            if params.max_total_tokens is None or params.truncate_prompt_tokens is not None:
                return self._encoder.encode(question.conversation, question.ending)
            budget = Budget(params.max_total_tokens, params.max_output_tokens or 1)
            return self._encoder.fit(question.conversation, question.ending, budget)
        except ConversationError as error:
            raise refusal(error) from error

    @staticmethod
    def _report(rendered: Rendered) -> Prompt:
        """Count and announce what was done to the conversation. Returns vLLM's form of the prompt."""
        if rendered.control_text:
            metrics.CONTROL_TEXT.inc(rendered.control_text)
        if rendered.dropped_pairs:
            metrics.HISTORY_TRUNCATIONS.inc()
            notify(DROPPED_PAIRS, str(rendered.dropped_pairs))
        return {"prompt": rendered.prompt, "prompt_token_ids": rendered.token_ids}


def refusal(error: ConversationError) -> VLLMValidationError:
    """The error that vLLM answers with HTTP 400 and OpenAI's error body."""
    return VLLMValidationError(str(error), parameter="messages")


def completion_only(chat_checkpoint: str | None) -> str:
    """What to tell a client that sends a conversation to a checkpoint that was not trained on any."""
    advice = f", or serve {chat_checkpoint}" if chat_checkpoint else ""
    return f"This checkpoint is completion-only and has no chat prompt: use /v1/completions{advice}."

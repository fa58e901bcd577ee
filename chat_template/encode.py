"""From a conversation to the ids the model gets: exact, and with control tokens only where the template puts them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from chat_template.conversation import Conversation, read_conversation
from chat_template.errors import ConversationError
from chat_template.layout import END_OF_TURN, Ending, text_runs
from chat_template.plain_text import PlainTextTokenizer
from chat_template.settings import ChatSettings

ANSWER_NEXT = Ending()
USUAL_ANSWER = 256
"""Tokens: what the family's examples ask for (max_new_tokens on the model cards)."""


@dataclass(frozen=True)
class Budget:
    """In tokens: the context's size, and the answer that the request asks for (at least 1).

    The prompt must leave room for the answer asked for, and for a usual one while there are turns to drop.
    """

    context: int
    answer: int

    def room(self, *, can_drop: bool) -> int:
        """How long the prompt may be."""
        return self.context - (max(self.answer, USUAL_ANSWER) if can_drop else self.answer)


@dataclass(frozen=True)
class Rendered:
    """A prompt.

    - `prompt`: the reference string, without BOS, which the tokenizer adds.
    - `control_positions`: where in `token_ids` the template's own BOS and EOS are.
    - `control_text`: how many spellings of control tokens the conversation holds, ordinary text in `token_ids`.
    - `dropped_pairs`: how many of the oldest question-and-answer pairs were left out.
    """

    prompt: str
    token_ids: list[int]
    control_positions: list[int]
    control_text: int
    dropped_pairs: int

    @property
    def run_sizes(self) -> list[int]:
        """How many tokens each stretch of text takes, with the control token beside it."""
        ends = [position + 1 for position in self.control_positions[1:]]
        return [end - start for start, end in pairwise([0, *ends, len(self.token_ids)])]


class ConversationEncoder:
    """Renders conversations with one template for one tokenizer. Thread-safe."""

    def __init__(self, tokenizer: Any, settings: ChatSettings) -> None:
        """`tokenizer` is a fast one of transformers, `settings.template` not "none". Raises TemplateMismatchError."""
        self.settings = settings
        self._tokenizer = PlainTextTokenizer(tokenizer)

    def encode_messages(self, messages: Sequence[Mapping[str, Any]], ending: Ending = ANSWER_NEXT) -> Rendered:
        """The prompt for a request's `messages`, however long. Raises ConversationError."""
        return self.encode(read_conversation(messages, self.settings), ending)

    def encode(self, conversation: Conversation, ending: Ending) -> Rendered:
        """The prompt for `conversation`, however long. Raises ConversationError if `ending` does not suit it."""
        return self._render(self._runs(conversation, ending, 0), 0)

    def fit(self, conversation: Conversation, ending: Ending, budget: Budget) -> Rendered:
        """The prompt for `conversation` within `budget`. Raises ConversationError if that cannot be, or as `encode`.

        With `truncate_history="oldest"` the oldest pairs are dropped until it fits.
        """
        droppable = conversation.droppable_pairs if self.settings.truncate_history == "oldest" else 0
        dropped = 0
        while True:
            room = budget.room(can_drop=dropped < droppable)
            runs = self._runs(conversation, ending, dropped)
            # No run takes fewer tokens than this: what cannot fit is not encoded at all.
            sizes = [len(run) // self._tokenizer.max_characters_per_token for run in runs]
            if sum(sizes) <= room:
                rendered = self._render(runs, dropped)
                if len(rendered.token_ids) <= room:
                    return rendered
                sizes = rendered.run_sizes
            if dropped == droppable:
                raise too_long(sum(sizes), budget)
            dropped = min(dropped + _oldest_to_drop(sizes, room), droppable)

    def _runs(self, conversation: Conversation, ending: Ending, dropped: int) -> list[str]:
        return text_runs(conversation.without_oldest(dropped), self.settings.template, ending)

    def _render(self, runs: Sequence[str], dropped: int) -> Rendered:
        token_ids, positions = self._tokenizer.encode(runs)
        control_text = sum(run.count(spelling) for spelling in self._tokenizer.control_spellings for run in runs)
        return Rendered(END_OF_TURN.join(runs), token_ids, positions, control_text, dropped)


def too_long(tokens: int, budget: Budget) -> ConversationError:
    """The refusal of at least `tokens` tokens of messages, in the words that clients of OpenAI and vLLM look for."""
    return ConversationError(
        f"This model's maximum context length is {budget.context} tokens. However, you requested {budget.answer} "
        f"output tokens and your messages take at least {tokens} tokens. Shorten them, or request fewer output tokens."
    )


def _oldest_to_drop(sizes: Sequence[int], most: int) -> int:
    """How many of the first `sizes`, at least one, must go so that the rest adds up to `most` or less."""
    left = sum(sizes)
    for count, size in enumerate(sizes, start=1):
        left -= size
        if left <= most:
            return count
    return len(sizes)

"""The text of an answer as clients get it: without the separator's space, and cut where the next turn would begin."""

TURN_STARTS = ("\nHuman:", "</s>Human:")
"""What a model writes when it runs on into the user's next turn. An answer's start counts as the start of a line."""


class ReplyText:
    """Takes an answer piece by piece and gives it back trimmed. Holds back only what may yet become a turn start."""

    def __init__(self, *, starts_turn: bool) -> None:
        """`starts_turn`: the answer opens a turn, so a space in front is the separator; else it continues a text."""
        self.stopped = False
        """Whether the model began the user's next turn. Nothing is given back from there on."""
        self._awaiting_separator = starts_turn
        # The line start before the answer, so that one rule serves both. It is never given back.
        self._held = "\n" if starts_turn else ""
        self._unsendable = len(self._held)

    def feed(self, text: str) -> str:
        """The text that is ready now that `text` has come, "" if there is none yet."""
        if self.stopped or not text:
            return ""
        if self._awaiting_separator:
            self._awaiting_separator = False
            text = text.removeprefix(" ")
        text = self._held + text
        found = [at for at in map(text.find, TURN_STARTS) if at >= 0]
        self.stopped = bool(found)
        ready = min(found) if found else len(text) - _undecided(text)
        return self._release(text, ready)

    def finish(self) -> str:
        """The text that was held back, now that no more comes."""
        return "" if self.stopped else self._release(self._held, len(self._held))

    def _release(self, text: str, ready: int) -> str:
        self._held = text[ready:]
        skipped, self._unsendable = self._unsendable, self._unsendable if ready == 0 else 0
        return text[skipped:ready]


def _undecided(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a turn start."""
    lengths = (n for start in TURN_STARTS for n in range(1, len(start)) if text.endswith(start[:n]))
    return max(lengths, default=0)

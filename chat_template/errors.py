"""What can go wrong with a conversation or a tokenizer. No engine needed."""


class ConversationError(ValueError):
    """A conversation that the family's prompt cannot express. Its text is meant for the client; it becomes HTTP 400.

    `index` is the place of the message at fault in the request's list, or None where no single message is.
    """

    def __init__(self, reason: str, index: int | None = None) -> None:
        super().__init__(reason if index is None else f"messages[{index}]: {reason}")
        self.index = index


class ForgedTurnError(ConversationError):
    """A message in which a turn start is typed as text, refused by `turn_forgery="reject"`."""


class TemplateMismatchError(Exception):
    """The checkpoint's tokenizer and the chosen template do not belong together. The server must not start."""

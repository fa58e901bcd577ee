"""Counters of what the template protects against, beside vLLM's own on /metrics. They count in the API process."""

from prometheus_client import Counter

TURN_FORGERIES = Counter(
    "xuanyuan_turn_forgeries", "Messages with a turn start typed as plain text, by what was done with them.", ["action"]
)
CONTROL_TEXT = Counter("xuanyuan_control_text", "Spellings of control tokens in messages, encoded as ordinary text.")
SELF_TURN_STOPS = Counter("xuanyuan_self_turn_stops", "Answers cut where the model began the user's next turn.")
HISTORY_TRUNCATIONS = Counter("xuanyuan_history_truncations", "Conversations shortened to fit the context.")

"""A copy of a tokenizer for which the spelling of a control token is ordinary text."""

import json
import secrets
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from chat_template.errors import TemplateMismatchError


class PlainTextTokenizer:
    """Encodes stretches of text, with the tokenizer's own end-of-text token between them and nowhere else.

    In the copy that token is spelled by a random marker, and the other control tokens cannot be spelled at all. So it
    is the tokenizer itself that does what it does around an end-of-text token, such as to prepend a space after it.
    A character that the vocabulary cannot write still becomes the unknown token, as it does in the original.
    """

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is one of transformers', backed by the `tokenizers` library. Raises TemplateMismatchError."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise TemplateMismatchError(f"{type(tokenizer).__name__}: expected a fast tokenizer (tokenizers library)")
        spec = json.loads(backend.to_str())
        added = {token["id"]: token for token in spec["added_tokens"]}
        self._bos_id = tokenizer.bos_token_id
        self._eos_id = tokenizer.eos_token_id
        if self._bos_id is None or self._eos_id not in added:
            raise TemplateMismatchError("the tokenizer has no <s> (BOS) or no </s> (EOS), and the prompt needs both")
        self._marker = f"<{secrets.token_hex(16)}>"
        spellings = {number: f"{self._marker}{number}" for number in added} | {self._eos_id: self._marker}
        spec["model"] = _respelled(
            spec["model"], {added[number]["content"]: text for number, text in spellings.items()}
        )
        spec["added_tokens"] = [{**added[self._eos_id], "content": self._marker}]
        spec["post_processor"] = spec["truncation"] = spec["padding"] = None
        self._copy = Tokenizer.from_str(json.dumps(spec))
        if self._copy.token_to_id(self._marker) != self._eos_id:
            raise TemplateMismatchError("the tokenizer's end-of-text token is not in its vocabulary")
        self.control_spellings = tuple(token["content"] for token in added.values())
        self.max_characters_per_token = max(map(len, backend.get_vocab(with_added_tokens=False)))

    def encode(self, runs: Sequence[str]) -> tuple[list[int], list[int]]:
        """Ids of BOS and `runs` with the end-of-text token between them, and the positions of those control tokens.

        Thread-safe, and lets other threads run meanwhile.
        """
        ids = [self._bos_id, *self._copy.encode(self._marker.join(runs), add_special_tokens=False).ids]
        positions = [0]
        for _ in runs[1:]:
            positions.append(ids.index(self._eos_id, positions[-1] + 1))
        return ids, positions


def _respelled(model: dict[str, Any], spellings: dict[str, str]) -> dict[str, Any]:
    """The model of a tokenizer.json with some pieces renamed, and no other piece that leads to them."""
    if model["type"] == "BPE":
        vocab = {spellings.get(piece, piece): number for piece, number in model["vocab"].items()}
        merges = [
            [left, right]
            for left, right in model["merges"]
            if left not in spellings and right not in spellings and left + right not in spellings
        ]
        unknown = spellings.get(model["unk_token"], model["unk_token"])
        return {**model, "vocab": vocab, "merges": merges, "unk_token": unknown}
    if model["type"] == "Unigram":
        return {**model, "vocab": [[spellings.get(piece, piece), score] for piece, score in model["vocab"]]}
    raise TemplateMismatchError(f"a tokenizer of type {model['type']}: expected BPE or Unigram")

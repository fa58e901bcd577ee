"""A checkpoint's tokenizer files: vocabulary, end-of-sequence token, chat template. No tokenizer is built."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.errors import CheckpointError
from serving.json_files import read_json, read_optional_json, refuse_lfs_pointer


@dataclass(frozen=True)
class TokenizerFiles:
    """`pieces` is the vocabulary proper, `added` what was added to it (special tokens mostly): text to id.

    `control_tokens` are the texts of the tokens that no ordinary text becomes, such as "<s>".
    """

    pieces: Mapping[str, int]
    added: Mapping[str, int]
    eos_token: str | None
    control_tokens: tuple[str, ...]
    has_chat_template: bool

    def id_of(self, token: str | None) -> int | None:
        """The id of a token by its text; None where there is no such token."""
        return self.added.get(token, self.pieces.get(token)) if token is not None else None


def read_tokenizer(folder: Path) -> TokenizerFiles:
    """Raises CheckpointError when the files are missing or damaged."""
    config = read_optional_json(folder / "tokenizer_config.json")
    if config.get("auto_map"):
        raise CheckpointError(
            f"{folder / 'tokenizer_config.json'}: auto_map = {config['auto_map']}: needs Python code of its own, "
            "which is never run here"
        )
    pieces, added = _vocabulary(folder)
    added |= _ids(read_optional_json(folder / "added_tokens.json").items(), folder / "added_tokens.json")
    added |= _declared(config, folder / "tokenizer_config.json")
    special = read_optional_json(folder / "special_tokens_map.json")
    return TokenizerFiles(
        pieces=pieces,
        added=added,
        eos_token=_text(config.get("eos_token")) or _text(special.get("eos_token")),
        control_tokens=tuple(sorted({*added, *_named(config), *_named(special)})),
        has_chat_template=_has_chat_template(folder, config),
    )


def _vocabulary(folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """The pieces, and the tokens added to them, of tokenizer.json or else of tokenizer.model."""
    fast, slow = folder / "tokenizer.json", folder / "tokenizer.model"
    if fast.exists():
        return _fast(fast)
    if slow.exists():
        return {piece: number for number, piece in enumerate(_sentencepiece(slow))}, {}
    raise CheckpointError(
        f"{folder}: no tokenizer (tokenizer.json or tokenizer.model) in it; fetch the checkpoint again"
    )


def _fast(file: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Vocabulary and added tokens of a tokenizer.json (https://huggingface.co/docs/tokenizers)."""
    data = read_json(file)
    model, added = data.get("model"), data.get("added_tokens") or []
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list):  # Unigram: [[piece, score], …], and the place is the id
        vocabulary = {str(row[0]): number for number, row in enumerate(vocabulary) if isinstance(row, list) and row}
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise CheckpointError(f"{file}: model.vocab is missing; expected the vocabulary")
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise CheckpointError(f"{file}: added_tokens: expected a list of objects with id and content")
    return _ids(vocabulary.items(), file), _ids(((token.get("content"), token.get("id")) for token in added), file)


def _declared(config: Mapping[str, Any], file: Path) -> dict[str, int]:
    """The tokens of tokenizer_config.json's added_tokens_decoder, {"2": {"content": "</s>", …}, …}."""
    declared = config.get("added_tokens_decoder") or {}
    if not isinstance(declared, dict):
        raise CheckpointError(f"{file}: added_tokens_decoder: expected an object")
    return _ids(((_text(token), int(number) if number.isdigit() else None) for number, token in declared.items()), file)


def _ids(rows: Any, file: Path) -> dict[str, int]:
    found = dict(rows)
    for text, number in found.items():
        if not isinstance(text, str) or type(number) is not int or number < 0:
            raise CheckpointError(f"{file}: token {text!r} has id {number!r}; expected a whole number from 0")
    return found


def _text(token: object) -> str | None:
    """A special token's text; the files give it as it is or as {"content": text, …}."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _named(settings: Mapping[str, Any]) -> set[str]:
    """The tokens that the settings call bos_token, eos_token, unk_token or pad_token."""
    named = (_text(settings.get(f"{name}_token")) for name in ("bos", "eos", "unk", "pad"))
    return {text for text in named if text}


def _has_chat_template(folder: Path, config: Mapping[str, Any]) -> bool:
    files = (folder / "chat_template.jinja", folder / "chat_template.json")
    return bool(config.get("chat_template")) or any(file.exists() for file in files)


def _sentencepiece(file: Path) -> list[str]:
    """The pieces of a tokenizer.model, in the order of their ids.

    It is a protobuf message, sentencepiece_model.proto's ModelProto, whose field 1, repeated, is a SentencePiece, whose
    field 1 is its text.
    """
    try:
        data = file.read_bytes()
        refuse_lfs_pointer(file, data)
        messages = [value for number, value in _fields(data) if number == 1]
        pieces = [next(value for number, value in _fields(message) if number == 1).decode() for message in messages]
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from None
    except (ValueError, IndexError, StopIteration) as error:
        raise CheckpointError(f"{file}: not a SentencePiece model: {error}") from None
    if not pieces:
        raise CheckpointError(f"{file}: not a SentencePiece model: it has no pieces")
    return pieces


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each length-delimited field of a protobuf message (https://protobuf.dev/programming-guides/encoding).

    Raises ValueError or IndexError where the bytes are no message.
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            _, position = _varint(message, position)
        elif kind == 2:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("it is cut short")
            yield key >> 3, message[position : position + length]
            position += length
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """A variable-length number, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number of more than 10 bytes")

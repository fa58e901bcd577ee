"""A checkpoint as GGUF: read back with the gguf package, every weight and token is what it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, TokenType

from benchmarks.console import BenchmarkError
from benchmarks.gguf_file import write

HEADS, KV_HEADS, HEAD_DIM, HIDDEN, INNER, VOCABULARY = 4, 2, 6, 16, 20, 12
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"},
    "vocab_size": VOCABULARY,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
TOKENS = ["<s>", "</s>", "Ġ", "a", "b", "ab", "Ġab"]
TOKENIZER: dict[str, Any] = {
    "model": {
        "type": "BPE",
        "vocab": {text: number for number, text in enumerate(TOKENS)},
        "merges": [["a", "b"], ["Ġ", "ab"]],
    },
    "pre_tokenizer": {"type": "ByteLevel", "use_regex": True},
    "added_tokens": [
        {"id": 0, "content": "<s>", "special": True},
        {"id": 1, "content": "</s>", "special": True},
        {"id": 7, "content": "<tool>", "special": False},
    ],
}
SHAPES = {
    "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
    "model.layers.0.input_layernorm.weight": (HIDDEN,),
    "model.layers.0.self_attn.q_proj.weight": (HEADS * HEAD_DIM, HIDDEN),
    "model.layers.0.self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
    "model.layers.0.self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
    "model.layers.0.self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
    "model.layers.0.post_attention_layernorm.weight": (HIDDEN,),
    "model.layers.0.mlp.gate_proj.weight": (INNER, HIDDEN),
    "model.layers.0.mlp.up_proj.weight": (INNER, HIDDEN),
    "model.layers.0.mlp.down_proj.weight": (HIDDEN, INNER),
    "model.norm.weight": (HIDDEN,),
    "lm_head.weight": (VOCABULARY, HIDDEN),
}
WIDTHS = {"BF16": 2, "F16": 2, "F32": 4, "I32": 4}


def weights(shapes: dict[str, tuple[int, ...]], width: int) -> dict[str, Any]:
    """Random bytes that are finite numbers in any of these types: no byte is above 0x3b."""
    generator = np.random.default_rng(0)
    sizes = {name: (*shape[:-1], shape[-1] * width) for name, shape in shapes.items()}
    return {name: generator.integers(0, 0x3B, size, dtype=np.uint8) for name, size in sizes.items()}


def save(file: Path, data: dict[str, Any], shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
    """A safetensors file, written here so that numpy need not know bfloat16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, values in data.items():
        header[name] = {"dtype": dtype, "shape": list(shapes[name]), "data_offsets": [place, place + values.nbytes]}
        place += values.nbytes
    head = json.dumps(header).encode()
    file.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(values.tobytes() for values in data.values()))


def make(folder: Path, dtype: str = "BF16", **changes: Any) -> dict[str, Any]:
    """A checkpoint in two shards; the bytes of its tensors. `changes` go into its config."""
    data = weights(SHAPES, WIDTHS[dtype])
    names = list(SHAPES)
    folder.mkdir(exist_ok=True)
    for number, part in enumerate((names[:5], names[5:])):
        save(folder / f"model-{number}.safetensors", {name: data[name] for name in part}, SHAPES, dtype)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    words = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{{ messages }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    return data


def read(folder: Path) -> GGUFReader:
    file = folder / "made.gguf"
    write(folder, file)
    return GGUFReader(file)


def tensors(reader: GGUFReader) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in reader.tensors}


def field(reader: GGUFReader, key: str) -> Any:
    return reader.get_field(key).contents()


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_matrices_keep_their_bits_and_their_type(tmp_path: Path, dtype: str) -> None:
    data = make(tmp_path, dtype)
    found = tensors(read(tmp_path))
    plain = {
        "model.embed_tokens.weight": "token_embd.weight",
        "lm_head.weight": "output.weight",
        "model.layers.0.self_attn.v_proj.weight": "blk.0.attn_v.weight",
        "model.layers.0.self_attn.o_proj.weight": "blk.0.attn_output.weight",
        "model.layers.0.mlp.gate_proj.weight": "blk.0.ffn_gate.weight",
        "model.layers.0.mlp.up_proj.weight": "blk.0.ffn_up.weight",
        "model.layers.0.mlp.down_proj.weight": "blk.0.ffn_down.weight",
    }
    for old, new in plain.items():
        assert found[new].tensor_type == GGMLQuantizationType[dtype]
        assert found[new].data.tobytes() == data[old].tobytes(), new
        assert list(found[new].shape) == list(SHAPES[old])[::-1], new
    assert len(found) == len(SHAPES)


@pytest.mark.parametrize(("letter", "heads"), [("q", HEADS), ("k", KV_HEADS)])
def test_rotated_pairs_become_neighbours(tmp_path: Path, letter: str, heads: int) -> None:
    """What transformers rotates together lies half a head apart; llama.cpp takes rows 0 and 1, 2 and 3, …"""
    data = make(tmp_path)
    rows = data[f"model.layers.0.self_attn.{letter}_proj.weight"]
    found = tensors(read(tmp_path))[f"blk.0.attn_{letter}.weight"].data.view(np.uint8).reshape(rows.shape)
    for head in range(heads):
        for pair in range(HEAD_DIM // 2):
            first = head * HEAD_DIM + pair
            assert (found[head * HEAD_DIM + 2 * pair] == rows[first]).all()
            assert (found[head * HEAD_DIM + 2 * pair + 1] == rows[first + HEAD_DIM // 2]).all()


def test_norms_are_exact_in_float32(tmp_path: Path) -> None:
    data = make(tmp_path)["model.norm.weight"].reshape(-1, 2)
    expected = np.zeros((HIDDEN, 4), np.uint8)
    expected[:, 2:] = data  # bfloat16 is the upper half of float32
    norm = tensors(read(tmp_path))["output_norm.weight"]
    assert norm.tensor_type == GGMLQuantizationType.F32 and norm.data.tobytes() == expected.tobytes()


def test_a_tied_output_is_not_written_twice(tmp_path: Path) -> None:
    make(tmp_path, tie_word_embeddings=True)
    assert "output.weight" not in tensors(read(tmp_path))


def test_the_shape_is_that_of_the_config(tmp_path: Path) -> None:
    make(tmp_path)
    reader = read(tmp_path)
    expected = {
        "general.architecture": "llama",
        "llama.context_length": 64,
        "llama.embedding_length": HIDDEN,
        "llama.block_count": 1,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.rope.dimension_count": HEAD_DIM,
        "llama.rope.freq_base": 5e5,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.chat_template": "{{ messages }}",
    }
    assert {key: field(reader, key) for key in expected} == expected
    assert field(reader, "llama.attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("older", "theta"), [({}, 1e4), ({"rope_theta": 7e4}, 7e4), ({"rope_theta": 7e4, "rope_scaling": None}, 7e4)]
)
def test_the_rope_base_in_older_configs(tmp_path: Path, older: dict[str, Any], theta: float) -> None:
    make(tmp_path, rope_parameters=None, **older)
    assert field(read(tmp_path), "llama.rope.freq_base") == theta


def test_byte_level_tokens(tmp_path: Path) -> None:
    """Special tokens are control tokens; ids without a text are filled up to the embedding's rows."""
    make(tmp_path)
    reader = read(tmp_path)
    texts = field(reader, "tokenizer.ggml.tokens")
    assert texts == [*TOKENS, "<tool>", *(f"[PAD{number}]" for number in range(8, VOCABULARY))]
    kinds = [TokenType(kind) for kind in field(reader, "tokenizer.ggml.token_type")]
    assert kinds[:3] == [TokenType.CONTROL, TokenType.CONTROL, TokenType.NORMAL]
    assert kinds[7:9] == [TokenType.USER_DEFINED, TokenType.UNUSED]
    assert field(reader, "tokenizer.ggml.merges") == ["a b", "Ġ ab"]
    assert (field(reader, "tokenizer.ggml.model"), field(reader, "tokenizer.ggml.pre")) == ("gpt2", "gpt-2")


def test_sentencepiece_tokens(tmp_path: Path) -> None:
    """The family's kind of tokenizer: pieces, scores and byte tokens are those of tokenizer.model."""
    import sentencepiece

    from tests.family import VOCAB_SIZE, make_tokenizer

    shapes = SHAPES | {name: (VOCAB_SIZE, HIDDEN) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": VOCAB_SIZE}))
    save(tmp_path / "model.safetensors", weights(shapes, 2), shapes, "F16")
    make_tokenizer(tmp_path, "llama2")
    reader = read(tmp_path)
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    texts, scores = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.scores")
    kinds = field(reader, "tokenizer.ggml.token_type")
    assert len(texts) == len(scores) == len(kinds) == VOCAB_SIZE
    assert field(reader, "tokenizer.ggml.model") == "llama"
    assert kinds[0] == TokenType.UNKNOWN and kinds[1] == TokenType.CONTROL and kinds[3] == TokenType.BYTE
    for number in (3, 300, 5000, VOCAB_SIZE - 1):
        assert (texts[number], scores[number]) == (model.id_to_piece(number), pytest.approx(model.get_score(number)))
    assert reader.get_field("tokenizer.ggml.add_bos_token").contents() is True


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "architecture": ({"architectures": ["Qwen2ForCausalLM"]}, ("Qwen2ForCausalLM", "LlamaForCausalLM")),
    "quantized": ({"quantization_config": {"quant_method": "gptq"}}, ("quantized (gptq)",)),
    "rope": ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, ("rotary embedding (yarn)",)),
    "older rope": ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, ("rotary embedding (linear)",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_written_unchanged_is_refused(tmp_path: Path, case: str) -> None:
    changes, words = REFUSED[case]
    make(tmp_path, **changes)
    with pytest.raises(BenchmarkError) as refused:
        read(tmp_path)
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_other_types_tokenizers_and_folders_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "types", "I32")
    with pytest.raises(BenchmarkError, match="holds I32: only BF16, F16, F32"):
        read(tmp_path / "types")
    make(tmp_path / "cut")
    other = TOKENIZER | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split"}]}}
    (tmp_path / "cut" / "tokenizer.json").write_text(json.dumps(other))
    with pytest.raises(BenchmarkError, match="BPE after Split: expected BPE after ByteLevel"):
        read(tmp_path / "cut")
    make(tmp_path / "none")
    (tmp_path / "none" / "tokenizer.json").unlink()
    with pytest.raises(BenchmarkError, match=r"no tokenizer\.model"):
        read(tmp_path / "none")
    for file in (tmp_path / "none").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(BenchmarkError, match="no safetensors"):
        read(tmp_path / "none")
    with pytest.raises(BenchmarkError, match=r"config\.json"):
        read(tmp_path)

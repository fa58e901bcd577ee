"""Every reason not to serve a folder: how it is broken, and what the message must say. All exit with code 2."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from serving import quantization
from serving.catalog import CatalogEntry, load_catalog
from serving.checkpoint import read_checkpoint
from serving.errors import CheckpointError
from tests.tiny_checkpoint import CONFIG, GPTQ, INT8, edit, half, make_tiny, tensors, write

INDEX = "model.safetensors.index.json"
SECOND = "model-00002-of-00002.safetensors"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12800000000\n"


@dataclass(frozen=True)
class Case:
    """A way to break a folder of the given form, and words that the refusal must contain."""

    apply: Callable[[Path], object]
    words: tuple[str, ...]
    form: str = "fp16"
    sharded: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def config(*words: str, form: str = "fp16", **changes: Any) -> Case:
    return Case(edit("config.json", **changes), words, form)


def gptq(*words: str, device: str = "cuda", **changes: Any) -> Case:
    settings = {key: value for key, value in (GPTQ | changes).items() if value is not None}
    return Case(edit("config.json", quantization_config=settings), words, "gptq", options={"device": device})


def replace(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def stored(*without: str, **changed: np.ndarray[Any, Any]) -> Callable[[Path], object]:
    """Write the weights without some tensors, and with others changed."""
    kept = {name: array for name, array in tensors().items() if name not in without}
    return lambda folder: save_file(kept | changed, folder / "model.safetensors")


def tokens(**changes: Any) -> Callable[[Path], object]:
    return edit("tokenizer.json", **changes)


def no_eos(folder: Path) -> None:
    for file in ("config.json", "generation_config.json"):
        edit(file, eos_token_id=None)(folder)
    edit("tokenizer_config.json", eos_token=None)(folder)


def cut(folder: Path) -> None:
    data = (folder / SECOND).read_bytes()
    (folder / SECOND).write_bytes(data[:-1000])


def dangling(folder: Path) -> None:
    (folder / SECOND).unlink()
    (folder / SECOND).symlink_to(folder / "blobs" / "gone")


def both(folder: Path) -> None:
    save_file({"model.norm.weight": half(64)}, folder / "other.safetensors")


def only_pickles(folder: Path, name: str = "pytorch_model.bin") -> None:
    (folder / "model.safetensors").rename(folder / name)


def pickled_pointer(folder: Path) -> None:
    only_pickles(folder)
    replace("pytorch_model.bin", POINTER)(folder)


def pickled_shard_gone(folder: Path) -> None:
    only_pickles(folder, "pytorch_model-00001-of-00002.bin")
    shards = {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}
    write(folder / "pytorch_model.bin.index.json", {"weight_map": shards})


def row(template: str = "6b", **changes: Any) -> dict[str, Any]:
    return {"entry": CatalogEntry("Tiny-Chat", template=template, chat=True, **changes)}


def family(name: str) -> dict[str, Any]:
    return {"entry": load_catalog().get(name)}


def six_b(folder: Path) -> None:
    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 30, "num_attention_heads": 32}
    edit("config.json", **sizes, vocab_size=39438)(folder)


def nothing(_: Path) -> None:
    """Leave the folder as it is: the options alone make it unfit."""


CASES: dict[str, Case] = {
    # The folder and its small files.
    "no config.json": Case(lambda folder: (folder / "config.json").unlink(), ("no config.json",)),
    "config is not JSON": Case(replace("config.json", b"{'a': 1}"), ("config.json", "not valid JSON")),
    "config is not UTF-8": Case(replace("config.json", b'{"a": "\xff"}'), ("config.json", "not valid JSON")),
    "config is a list": Case(replace("config.json", b"[]"), ("config.json", "expected an object")),
    "config nested thousands deep": Case(replace("config.json", b"[" * 100_000), ("config.json", "not valid JSON")),
    "config is a git-lfs pointer": Case(replace("config.json", POINTER), ("config.json", "git lfs pull")),
    "generation config is not JSON": Case(replace("generation_config.json", b""), ("generation_config.json", "JSON")),
    # The architecture.
    "another architecture": config("Qwen2ForCausalLM", "not a LLaMA", architectures=["Qwen2ForCausalLM"]),
    "no architecture": config("None", "not a LLaMA", architectures=None),
    "another model type": config("'mistral'", "not a LLaMA", model_type="mistral"),
    "code of its own": config("auto_map", "never run", auto_map={"AutoModel": "modeling_x.X"}),
    "a tokenizer with code of its own": Case(
        edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["x.X", None]}), ("tokenizer_config.json", "never run")
    ),
    "no intermediate size": config("intermediate_size is missing", "whole number", intermediate_size=None),
    "no layers": config("num_hidden_layers = 0", "whole number", num_hidden_layers=0),
    "a size as text": config("vocab_size = '300'", "whole number", vocab_size="300"),
    "a size as truth": config("num_key_value_heads = True", "whole number", num_key_value_heads=True),
    "heads that do not divide": config("hidden_size = 64", "num_attention_heads = 5", num_attention_heads=5),
    "KV heads that do not divide": config("num_key_value_heads = 3", num_key_value_heads=3),
    "unknown dtype": config("float64", "float16, bfloat16, float32", torch_dtype="float64"),
    "rope scaling as text": config("rope_scaling = 'linear'", rope_scaling="linear"),
    "rope factor as text": config("rope_scaling", "factor", rope_scaling={"type": "linear", "factor": "4"}),
    # The weights.
    "no weights": Case(lambda folder: (folder / "model.safetensors").unlink(), ("no weights", "*.safetensors")),
    "pickles only": Case(only_pickles, ("pytorch_model.bin", "--allow-pickle")),
    "GPTQ pickle only": Case(lambda folder: only_pickles(folder, "gptq_model-4bit-128g.bin"), ("--allow-pickle",)),
    "a pickle that is a pointer": Case(pickled_pointer, ("git lfs pull",), options={"allow_pickle": True}),
    "a missing pickled shard": Case(pickled_shard_gone, ("00002-of-00002.bin",), options={"allow_pickle": True}),
    "a missing shard": Case(lambda folder: (folder / SECOND).unlink(), (SECOND, "missing"), sharded=True),
    "a link to nowhere": Case(dangling, (SECOND, "missing"), sharded=True),
    "a shard cut short": Case(cut, (SECOND, "cut short"), sharded=True),
    "a shard that is a pointer": Case(replace(SECOND, POINTER), (SECOND, "git lfs pull"), sharded=True),
    "a shard of garbage": Case(replace(SECOND, b"\xff" * 100), (SECOND, "not a safetensors"), sharded=True),
    "a shard of another checkpoint": Case(
        lambda folder: save_file({"x": half(1)}, folder / SECOND), (SECOND, "holds tensor"), sharded=True
    ),
    "an index that promises more": Case(
        edit(INDEX, metadata={"total_size": 10**9}), ("total_size", "1,000,000,000"), sharded=True
    ),
    "an index without a map": Case(edit(INDEX, weight_map=None), (INDEX, "weight_map"), sharded=True),
    "an index that leaves the folder": Case(
        edit(INDEX, weight_map={"x": "../x.safetensors"}), ("../x.safetensors", "same folder"), sharded=True
    ),
    "a tensor in two files": Case(both, ("model.norm.weight", "another file")),
    "a tensor missing": Case(stored("model.layers.1.mlp.up_proj.weight"), ("layers.1.mlp.up_proj.weight", "missing")),
    "no output layer": Case(stored("lm_head.weight"), ("lm_head.weight", "missing")),
    "another size's layer": Case(
        stored(**{"model.layers.1.self_attn.q_proj.weight": half(32, 64)}), ("q_proj", "[32, 64]", "[64, 64]")
    ),
    # Vocabulary and end of sequence.
    "embedding of another vocabulary": config("[300, 64]", "[301, 64]", "vocab_size = 301", vocab_size=301),
    "no tokenizer": Case(lambda folder: (folder / "tokenizer.json").unlink(), ("no tokenizer", "tokenizer.model")),
    "tokenizer is a pointer": Case(replace("tokenizer.json", POINTER), ("tokenizer.json", "git lfs pull")),
    "tokenizer without vocabulary": Case(tokens(model={"type": "BPE"}), ("tokenizer.json", "model.vocab")),
    "tokenizer of a larger model": Case(
        tokens(model={"vocab": {"a": 0, "</s>": 2, "z": 300}}), ("'z' has id 300", "vocab_size = 300", "another model")
    ),
    "unigram tokenizer of a larger model": Case(
        tokens(model={"vocab": [[f"piece{number}", 0.0] for number in range(301)]}), ("has id 300", "another model")
    ),
    "a token without an id": Case(tokens(added_tokens=[{"content": "<pad>"}]), ("'<pad>'", "None", "whole number")),
    "added tokens as text": Case(tokens(added_tokens="<pad>"), ("added_tokens", "a list")),
    "a sentencepiece model of garbage": Case(
        lambda folder: (folder / "tokenizer.json").rename(folder / "tokenizer.model"),
        ("tokenizer.model", "SentencePiece"),
    ),
    "no end of sequence": Case(no_eos, ("no end-of-sequence token", "never stop", "generation_config.json")),
    "end of sequence outside the vocabulary": config("eos_token_id = 300", "vocab_size = 300", eos_token_id=300),
    "end of sequence as text": config("eos_token_id = '</s>'", eos_token_id="</s>"),
    "end of sequence as a nested list": config("eos_token_id = [2]", eos_token_id=[[2]]),
    # Quantizations.
    "asymmetric GPTQ on a GPU": gptq("asymmetric", "sym = false", sym=False),
    "asymmetric GPTQ on a CPU": gptq("asymmetric", "sym = false", device="cpu", sym=False),
    "8-bit GPTQ on a CPU": gptq("8 bits", "cpu", "4 bits", device="cpu", bits=8),
    "3-bit GPTQ": gptq("3 bits", "4 or 8 bits", bits=3),
    "GPTQ with a group size of no kernel": gptq("group_size = 48", "-1, 32, 64, 128", group_size=48),
    "GPTQ that does not say desc_act": gptq("desc_act = None", "true or false", desc_act=None),
    "GPTQ with bits as text": gptq("bits = '4'", "a whole number", bits="4"),
    "GPTQ with weights that are not": config("gptq", "no layer", quantization_config=GPTQ),
    "GPTQ with another group size's scales": gptq("qzeros", "[2, 8]", "[1, 8]", group_size=64),
    "GPTQ that config.json hides": config("quantized", "no quantization_config", form="gptq", quantization_config=None),
    "int8 that config.json hides": config("quantized", "no quantization_config", form="int8", quantization_config=None),
    "int8 that config.json calls 4-bit": config(
        "q_proj.weight", form="int8", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}
    ),
    "4 bits stored as bfloat16": config(
        "bnb_4bit_quant_storage = 'bfloat16'",
        "uint8",
        quantization_config=INT8 | {"bnb_4bit_quant_storage": "bfloat16"},
    ),
    "an unknown quantization": config("'awq'", "bitsandbytes, gptq", quantization_config={"quant_method": "awq"}),
    "a misspelt quantization": config('did you mean "gptq"', quantization_config={"quant_method": "gptqq"}),
    "quantization as text": config("quantization_config = 'gptq'", quantization_config="gptq"),
    # A name that promises another checkpoint than the folder holds.
    "a 6B name over a tiny model": Case(
        nothing, ("hidden_size = 64", "XuanYuan-6B-Chat has 4096"), options=family("XuanYuan-6B-Chat")
    ),
    "a 13B name over a 6B": Case(six_b, ("hidden_size = 4096", "5120"), options=family("XuanYuan-13B-Chat")),
    "a 70B name over a 6B": Case(six_b, ("hidden_size = 4096", "8192"), options=family("XuanYuan2-70B-Chat")),
    "a 4-bit name over fp16": Case(
        six_b, ("quantization is none", "has gptq"), options=family("XuanYuan-6B-Chat-4bit")
    ),
    "an fp16 name over 4 bits": Case(nothing, ("quantization is gptq", "has none"), "gptq", options=row()),
    "an 8-bit name over 4 bits": Case(
        nothing, ("is gptq", "has bitsandbytes"), "gptq", options=row(quantization="bitsandbytes")
    ),
    # Templates.
    "own template that is not there": Case(nothing, ("own chat template", "has none"), options={"template": "own"}),
    "a row's own template that is not there": Case(nothing, ("own chat template",), options=row("own")),
    "an unknown template": Case(nothing, ('"7b"', "6b, 13b, 70b, own, none"), options={"template": "7b"}),
}


@pytest.mark.parametrize("name", CASES)
def test_refusal(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    folder = make_tiny(tmp_path / "folder", case.form, sharded=case.sharded)
    read_checkpoint(folder)  # it was good before
    case.apply(folder)
    refusal = refused(folder, **case.options)
    assert [word for word in (str(folder), *case.words) if word not in refusal] == [], refusal


def test_a_folder_that_is_not_there_or_empty_or_a_file(tmp_path: Path) -> None:
    assert "is not a folder" in refused(tmp_path / "nowhere")
    assert "is empty" in refused(tmp_path)
    (tmp_path / "model.gguf").touch()
    assert "is not a folder" in refused(tmp_path / "model.gguf")


@pytest.mark.parametrize("missing", ["vllm_bnb_plugin", "bitsandbytes"])
def test_bitsandbytes_without_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    folder = make_tiny(tmp_path / "folder", "int8")
    read_checkpoint(folder)
    monkeypatch.setattr(quantization, "find_spec", lambda name: None if name == missing else object())
    refusal = refused(folder)
    assert f"{missing} is not installed" in refusal and "make install" in refusal


def test_an_8_bit_gptq_checkpoint_is_served_on_a_gpu(tmp_path: Path) -> None:
    """The counterpart of its refusal on a CPU: there it fails for its shapes only, which are those of 4 bits."""
    folder = make_tiny(tmp_path / "folder", "gptq")
    edit("config.json", quantization_config=GPTQ | {"bits": 8})(folder)
    assert "qweight has shape [8, 64]; config.json says [16, 64]" in refused(folder, device="cuda")


def test_a_header_that_claims_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "folder")
    with (folder / "model.safetensors").open("wb") as file:
        file.write((8 << 30).to_bytes(8, "little"))
        file.truncate(9 << 30)  # a sparse file: 9 GiB long, nothing on disk
    assert "would have 8,589,934,592 bytes" in refused(folder)


def test_config_values_are_shown_as_they_are(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "folder")
    write(folder / "config.json", {key: value for key, value in CONFIG.items() if key != "hidden_size"})
    assert refused(folder) == f"{folder / 'config.json'}: hidden_size is missing: expected a whole number above 0"


def refused(folder: Path, **options: Any) -> str:
    """The message of the refusal."""
    with pytest.raises(CheckpointError) as refusal:
        read_checkpoint(folder, **options)
    assert refusal.value.exit_code == 2
    return str(refusal.value)

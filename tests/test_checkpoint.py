"""What is read of a checkpoint folder, for every form in which the family comes."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from serving.architecture import read_architecture
from serving.catalog import CatalogEntry
from serving.checkpoint import Quantization, read_checkpoint
from serving.errors import ConfigError
from serving.tensors import expected_tensors
from tests.tiny_checkpoint import CONFIG, GPTQ, HIDDEN, INT8, VOCABULARY, edit, make_tiny, tensors, write

CHAT = CatalogEntry("Tiny-Chat", template="6b", chat=True, stop=("</s>",))


def test_the_facts_of_a_plain_checkpoint(tmp_path: Path) -> None:
    found = read_checkpoint(make_tiny(tmp_path / "tiny"))
    assert (found.name, found.entry, found.template, found.dtype) == ("tiny", None, "none", "float16")
    assert (found.hidden_size, found.intermediate_size, found.num_layers, found.vocab_size) == (64, 128, 2, 300)
    assert (found.num_heads, found.num_kv_heads, found.head_dim) == (4, 4, 16)
    assert (found.context, found.quantization, found.hf_overrides) == (128, None, {})
    assert found.weight_bytes == sum(array.nbytes for array in tensors().values())
    assert found.tensors["model.embed_tokens.weight"].shape == (VOCABULARY, HIDDEN)


@pytest.mark.parametrize("form", ["fp16", "gptq", "int8"])
def test_two_shards_hold_what_one_file_holds(tmp_path: Path, form: str) -> None:
    one = read_checkpoint(make_tiny(tmp_path / "one", form))
    two = read_checkpoint(make_tiny(tmp_path / "two", form, sharded=True))
    assert one.tensors == two.tensors


def test_files_that_the_index_does_not_name_are_left_alone(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tiny", sharded=True)
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "consolidated.safetensors")
    assert read_checkpoint(folder).weight_bytes == sum(array.nbytes for array in tensors().values())


def test_gptq(tmp_path: Path) -> None:
    found = read_checkpoint(make_tiny(tmp_path / "tiny", "gptq"), device="cuda")
    assert found.quantization == Quantization("gptq", bits=4, group_size=32, sym=True, desc_act=False)
    assert found.hf_overrides == {}


def test_gptq_with_the_settings_in_a_file_of_their_own(tmp_path: Path) -> None:
    """As XuanYuan-6B-Chat-4bit has them; vLLM 0.29 does not look there, so it must be told."""
    folder = make_tiny(tmp_path / "tiny", "gptq")
    edit("config.json", quantization_config=None)(folder)
    write(folder / "quantize_config.json", {key: GPTQ[key] for key in GPTQ if key != "quant_method"})
    found = read_checkpoint(folder)
    assert found.quantization == Quantization("gptq", bits=4, group_size=32, sym=True, desc_act=False)
    assert found.hf_overrides == {"quantization_config": GPTQ}


def test_bitsandbytes(tmp_path: Path) -> None:
    found = read_checkpoint(make_tiny(tmp_path / "tiny", "int8"))
    assert found.quantization == Quantization("bitsandbytes", bits=8)
    assert found.hf_overrides == {}


def test_bitsandbytes_from_before_methods_had_names(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tiny", "int8")
    edit("config.json", quantization_config={"load_in_8bit": True})(folder)
    found = read_checkpoint(folder)
    assert found.quantization == Quantization("bitsandbytes", bits=8)
    assert found.hf_overrides == {"quantization_config": INT8}


def test_a_layer_that_the_quantizer_left_out(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    folder = make_tiny(tmp_path / "tiny", "int8")
    mixed = tensors("int8") | {name: array for name, array in tensors().items() if "down_proj" in name}
    save_file(
        {name: array for name, array in mixed.items() if "down_proj.SCB" not in name}, folder / "model.safetensors"
    )
    assert read_checkpoint(folder).tensors["model.layers.0.mlp.down_proj.weight"].dtype == "F16"


def test_pickles_that_are_allowed_are_counted_by_the_config(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tiny")
    stored = read_checkpoint(folder).tensors
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert read_checkpoint(folder, allow_pickle=True).tensors == stored


def test_of_a_pickled_gptq_checkpoint_vllm_is_told_the_layers(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tiny", "gptq")
    (folder / "model.safetensors").rename(folder / "gptq_model-4bit-32g.bin")
    settings = read_checkpoint(folder, allow_pickle=True).hf_overrides["quantization_config"]
    layers = settings["modules_in_block_to_quantize"]
    assert {name for group in layers for name in group} == {
        *(f"self_attn.{part}_proj" for part in "qkvo"),
        *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
    }
    assert settings == GPTQ | {"modules_in_block_to_quantize": layers}


@pytest.mark.parametrize(
    ("file", "value"),
    [
        ("tokenizer_config.json", {"eos_token": "</s>", "chat_template": "{{ messages }}"}),
        ("tokenizer_config.json", {"eos_token": "</s>", "chat_template": [{"name": "default", "template": "{{ x }}"}]}),
        ("chat_template.json", {"chat_template": "{{ messages }}"}),
        ("chat_template.jinja", "{{ messages }}"),
    ],
)
def test_a_folder_outside_the_catalog_uses_its_own_template(tmp_path: Path, file: str, value: Any) -> None:
    folder = make_tiny(tmp_path / "tiny")
    write(folder / file, value)
    assert read_checkpoint(folder).template == "own"


@pytest.mark.parametrize(("asked", "served"), [("auto", "6b"), ("13b", "13b"), ("none", "none")])
def test_a_row_gives_the_template_unless_another_is_asked_for(tmp_path: Path, asked: str, served: str) -> None:
    found = read_checkpoint(make_tiny(tmp_path / "tiny"), entry=CHAT, template=asked)
    assert (found.template, found.name) == (served, "Tiny-Chat")
    assert read_checkpoint(found.path, entry=CHAT, name="bank").name == "bank"


@pytest.mark.parametrize(
    ("config", "generation", "tokenizer", "ids"),
    [
        (2, 2, "</s>", (2,)),
        ([2, 1], None, None, (2, 1)),
        (None, [1, 2], None, (1, 2)),
        (None, None, "</s>", (2,)),
        (1, None, {"content": "</s>"}, (1, 2)),
        (0, None, None, (0,)),
    ],
)
def test_the_end_of_sequence_from_wherever_it_is_named(
    tmp_path: Path, config: Any, generation: Any, tokenizer: Any, ids: tuple[int, ...]
) -> None:
    folder = make_tiny(tmp_path / "tiny")
    edit("config.json", eos_token_id=config)(folder)
    edit("generation_config.json", eos_token_id=generation)(folder)
    edit("tokenizer_config.json", eos_token=tokenizer)(folder)
    assert read_checkpoint(folder).eos_token_ids == ids


def test_the_rows_stop_texts_end_an_answer_too(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tiny")
    entry = CatalogEntry("Tiny", template="6b", chat=True, stop=("</s>", "<s>", "no token of this tokenizer"))
    assert read_checkpoint(folder, entry=entry).stop_token_ids == (2, 1)


@pytest.mark.parametrize(
    ("rope", "context"),
    [
        ({"rope_scaling": None}, 128),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 512),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, 256),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 64}}, 256),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 16}}, 128),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}, 128),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}, 256),
    ],
)
def test_the_context_follows_rope_scaling_in_every_spelling(tmp_path: Path, rope: dict[str, Any], context: int) -> None:
    folder = make_tiny(tmp_path / "tiny")
    edit("config.json", **rope)(folder)
    assert read_checkpoint(folder).context == context


def test_the_context_is_no_longer_than_what_was_trained(tmp_path: Path) -> None:
    """XuanYuan-6B-Chat's config.json says 8192 positions; it was trained for 2048."""
    folder = make_tiny(tmp_path / "tiny")
    for trained, context in ((32, 32), (4096, 128), (None, 128)):
        entry = CatalogEntry("Tiny", template="6b", chat=True, context=trained)
        assert read_checkpoint(folder, entry=entry).context == context


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        ({"torch_dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "torch.float32"}, "float32"),
        ({"torch_dtype": None, "dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": None}, "float16"),
    ],
)
def test_the_dtype_is_the_configs_or_else_the_embeddings(tmp_path: Path, changes: dict[str, Any], dtype: str) -> None:
    folder = make_tiny(tmp_path / "tiny")
    edit("config.json", **changes)(folder)
    assert read_checkpoint(folder).dtype == dtype


def test_a_sentencepiece_model_alone_is_a_tokenizer(tmp_path: Path) -> None:
    import io

    from sentencepiece import SentencePieceTrainer

    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(["轩辕是金融大模型", "The bank's rate is 3.45%"]),
        model_writer=written,
        model_type="bpe",
        byte_fallback=True,
        vocab_size=290,
        minloglevel=2,
    )
    folder = make_tiny(tmp_path / "tiny")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    for file in ("config.json", "generation_config.json"):
        edit(file, eos_token_id=None)(folder)
    assert read_checkpoint(folder).eos_token_ids == (2,)
    edit("config.json", vocab_size=289)(folder)
    with pytest.raises(ConfigError, match=r"has id 289.*vocab_size = 289"):
        read_checkpoint(folder)


def test_added_tokens_may_use_the_rows_that_vllm_pads_with(tmp_path: Path) -> None:
    """XuanYuan-13B-Chat-4bit adds a <pad>; vLLM rounds the embedding's 300 rows up to 320."""
    folder = make_tiny(tmp_path / "tiny")
    write(folder / "added_tokens.json", {"<pad>": 319})
    assert read_checkpoint(folder, allow_pickle=True).vocab_size == VOCABULARY
    write(folder / "added_tokens.json", {"<pad>": 320})
    with pytest.raises(ConfigError, match=r"'<pad>' has id 320"):
        read_checkpoint(folder)


def test_tied_embeddings_need_no_output_layer(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    folder = make_tiny(tmp_path / "tiny")
    save_file(
        {name: array for name, array in tensors().items() if name != "lm_head.weight"}, folder / "model.safetensors"
    )
    edit("config.json", tie_word_embeddings=True)(folder)
    assert "lm_head.weight" not in read_checkpoint(folder).tensors


def test_the_older_spelling_of_the_architecture(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tiny")
    edit("config.json", architectures=["LLaMAForCausalLM"])(folder)
    assert read_checkpoint(folder).num_layers == 2


# The config.json of XuanYuan-6B-Chat on the hub, and the bytes of each form's weight files there, in GB.
SIX_B = CONFIG | {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 39438,
    "max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("stored", "gigabytes"),
    [
        (None, 9.95 + 2.84),
        (Quantization("bitsandbytes", bits=8), 5.00 + 1.72),
        (Quantization("gptq", bits=4, group_size=128, sym=True, desc_act=False), 3.81),
    ],
)
def test_the_computed_size_is_that_of_the_real_files(stored: Quantization | None, gigabytes: float) -> None:
    computed = sum(info.bytes for _, info in expected_tensors(read_architecture(SIX_B), stored, "float16"))
    assert computed / 1e9 == pytest.approx(gigabytes, rel=0.003)

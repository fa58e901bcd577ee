"""Settings: which source wins, what is refused, and that the docs are made from them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.commands.config import markdown
from serving.config import FIELDS, ServingConfig, from_environ, load_config, to_environ
from serving.errors import ConfigError
from tests.server_process import xuanyuan


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "xuanyuan.toml"
    file.write_text('port = 1\nmax_model_len = 2\ndtype = "float32"\n')
    sourced = load_config({"port": 3}, {"XUANYUAN_PORT": "4", "XUANYUAN_MAX_MODEL_LEN": "5"}, file)
    config = sourced.config
    assert (config.port, config.max_model_len, config.dtype, config.hub) == (3, 5, "float32", "huggingface")
    origins = [sourced.origins[name] for name in ("port", "max_model_len", "dtype", "hub")]
    assert origins == ["flag", "XUANYUAN_MAX_MODEL_LEN", str(file), "default"]


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "xuanyuan.toml"
    file.write_text("drain_timeout = 7\n")
    assert load_config({}, {"XUANYUAN_CONFIG": str(file)}).config.drain_timeout == 7.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", ["'prot'", 'did you mean "port"']),
        ('port = "8000"', ["port", "'8000'", "whole number"]),
        ("port = true", ["port", "True", "whole number"]),
        ("allow_pickle = 1", ["allow_pickle", "true or false"]),
        ('device = "tpu"', ["device", "'tpu'", "auto, cpu, cuda"]),
        ("port = 70000", ["port", "70000", "65535"]),
        ("gpu_memory_utilization = 1.5", ["gpu_memory_utilization", "1.5"]),
        ("max_model_len = -1", ["max_model_len", "-1"]),
        ("drain_timeout = nan", ["drain_timeout", "nan"]),
        ("port = ", ["not TOML"]),
        ('host = "0.0.0.0"', ["0.0.0.0", "keys_file", "allow_anonymous"]),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config({}, {}, file)
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"XUANYUAN_PROT": "1"}, ["XUANYUAN_PROT", "XUANYUAN_PORT"]),
        ({"XUANYUAN_PORT": "eight"}, ["XUANYUAN_PORT", "'eight'", "whole number"]),
        ({"XUANYUAN_PORT": "tcp://10.0.0.7:8000"}, ["XUANYUAN_PORT", "enableServiceLinks"]),
        ({"XUANYUAN_ALLOW_PICKLE": "maybe"}, ["XUANYUAN_ALLOW_PICKLE", "'maybe'"]),
    ],
)
def test_a_bad_variable_is_refused(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config({}, environ)
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize("name", ["XUANYUAN_CONFIG", "XUANYUAN_CACHE", "XUANYUAN_API_KEY"])
def test_variables_that_are_no_setting_are_left_alone(name: str) -> None:
    assert from_environ({name: "/nowhere", "HOME": "/"}) == {}


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no-such\.toml"):
        load_config({}, {}, Path("no-such.toml"))


@given(
    st.builds(
        ServingConfig,
        port=st.integers(0, 65535),
        drain_timeout=st.floats(0, 1e9),
        allow_pickle=st.booleans(),
        model=st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
        truncate_history=st.sampled_from(["never", "oldest"]),
    )
)
def test_the_environment_carries_a_configuration_unchanged(config: ServingConfig) -> None:
    assert load_config({}, to_environ(config)).config == config


def test_an_empty_variable_sets_nothing() -> None:
    assert load_config({}, {"XUANYUAN_PORT": "", "XUANYUAN_MODEL": ""}).config == ServingConfig()


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, item in FIELDS.items() if len(item.metadata["help"]) < 10] == []


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_readme_has_the_generated_table(name: str) -> None:
    readme = (Path(__file__).parent.parent / name).read_text()
    assert markdown() in readme, "run: xuanyuan config --markdown, and put it in " + name


def test_xuanyuan_config_shows_values_with_their_origin() -> None:
    shown = xuanyuan("config", "--port", "9", env={"XUANYUAN_HUB": "modelscope"}).stdout
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()}
    assert rows["port"] == ["9", "flag"]
    assert rows["hub"] == ["modelscope", "XUANYUAN_HUB"]
    assert rows["drain_timeout"] == ["30.0", "default"]

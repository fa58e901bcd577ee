"""One frozen configuration, from four sources: flag over environment over file over default.

The defaults, the help texts and the legal values stand here (the guard's in `guard/settings.py`) and nowhere else:
flags, environment names, `xuanyuan config` and the table in the README are made from them.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chat_template.settings import CHOICES
from serving.errors import ConfigError, near
from serving.guard.settings import BOOLEANS, GuardSettings, environ_name, parse, setting

# Names that begin like ours and are no field: where the file is, where the cache is, the key that clients send, and
# what the launcher tells the guard of the model.
OTHER_NAMES = ("XUANYUAN_CONFIG", "XUANYUAN_CACHE", "XUANYUAN_API_KEY", "XUANYUAN_SERVED")
ROUTING = ("round_robin", "least_loaded", "prefix", "session")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServingConfig(GuardSettings):
    """What to serve and how. 0 in a size means: the plan decides. Raises ConfigError on a value out of range."""

    model: str | None = setting(None, "catalog name, local folder, or hub id; unset without a GPU: the demo model")
    served_model_name: str | None = setting(None, "the model's name in the API; unset: the catalog's or folder's name")
    catalog: str | None = setting(None, "a TOML file that adds rows to the catalog")
    hub: str = setting("huggingface", "where weights are downloaded from", choices=("huggingface", "modelscope"))
    revision: str | None = setting(None, "branch, tag or commit on the hub")
    allow_pickle: bool = setting(False, "also load weights that are Python pickles, which can run code")
    demo_form: str = setting("bf16", "which form of the demo model", choices=("bf16", "gptq-4bit", "bnb-8bit", "base"))

    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8000, "port to listen on", least=0)
    start_timeout: float = setting(1800.0, "give up when the engine is not ready after this many seconds", least=1)
    drain_timeout: float = setting(30.0, "at a stop, requests in flight may take this many seconds to finish")
    drain_delay: float = setting(
        0.0, "at a stop, requests are still taken this many seconds, to send clients elsewhere"
    )
    engine_log: str | None = setting(None, "file for the engine's whole log; '-': the console; unset: in the cache")

    device: str = setting("auto", "where the engine runs", choices=("auto", "cpu", "cuda"))
    dtype: str = setting("auto", "number format", choices=("auto", "float16", "bfloat16", "float32"))
    max_model_len: int = setting(0, "longest prompt plus answer in tokens; 0: from the plan")
    gpu_memory_utilization: float = setting(0.0, "share of the GPU's memory to use; 0: from the plan")
    kv_cache_memory_bytes: int = setting(0, "bytes for the KV cache; 0: from the plan")
    tensor_parallel_size: int = setting(0, "GPUs that share each layer; 0: from the plan")
    pipeline_parallel_size: int = setting(0, "groups of layers; 0: from the plan")
    enforce_eager: bool = setting(False, "run the model without compiling it: a faster first start, slower answers")

    template: str = setting(
        "auto",
        "prompt rules: the family's 6b, 13b or 70b, the checkpoint's own, or none (completion only)",
        choices=("auto", "own", *CHOICES["template"]),
    )
    system_role: str = setting(
        "fold",
        "a system message where the family has none: fold it into the first turn, or reject",
        choices=CHOICES["system_role"],
    )
    turn_forgery: str = setting(
        "log", "text that imitates a turn (Human:, Assistant:)", choices=CHOICES["turn_forgery"]
    )
    truncate_history: str = setting(
        "never",
        "a conversation longer than the context: refuse it, or drop the oldest turns",
        choices=CHOICES["truncate_history"],
    )

    ray: bool = setting(False, "serve on Ray: replicas over GPUs and machines")
    ray_address: str | None = setting(None, "the Ray cluster to join, HOST:PORT; unset: one of its own on this machine")
    replicas: int = setting(1, "copies of the model on Ray", least=1)
    autoscale: str | None = setting(None, "MIN:MAX copies, as many as the load needs, instead of replicas")
    routing: str = setting("round_robin", "which copy gets a request", choices=ROUTING)
    replica_cpus: float = setting(0.0, "CPUs set aside for a copy; 0: 1 beside a GPU, else its share of a node")
    ray_gpu: str | None = setting(None, "the cluster's GPU, a name that `xuanyuan plan` knows; unset: Ray is asked")
    wait_for_resources: bool = setting(False, "wait until the cluster has room for the copies, instead of refusing")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.port > 65535:
            raise ConfigError(f"port={self.port}: expected a number from 0 to 65535")
        if self.gpu_memory_utilization > 1:
            raise ConfigError(f"gpu_memory_utilization={self.gpu_memory_utilization}: expected a share from 0 to 1")
        if self.host not in LOOPBACK and not self.keys_file and not self.allow_anonymous:
            raise ConfigError(
                f"host={self.host!r} would let anybody on the network ask: set keys_file (see `xuanyuan keys`), "
                "or allow_anonymous to insist, or listen on 127.0.0.1"
            )
        if self.autoscale:
            parse_autoscale(self.autoscale)


def parse_autoscale(text: str) -> tuple[int, int]:
    """The least and the most copies of "MIN:MAX". Raises ConfigError."""
    least, colon, most = text.partition(":")
    if not (colon and least.isdecimal() and most.isdecimal() and 1 <= int(least) <= int(most)):
        raise ConfigError(f"autoscale={text!r}: expected MIN:MAX with 1 <= MIN <= MAX, such as 1:4")
    return int(least), int(most)


FIELDS: dict[str, "dataclasses.Field[Any]"] = {item.name: item for item in dataclasses.fields(ServingConfig)}


@dataclass(frozen=True)
class Sourced:
    """A configuration, and where each field's value came from ("default", "flag", or a file's or variable's name)."""

    config: ServingConfig
    origins: Mapping[str, str]


def load_config(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None) -> Sourced:
    """Merge the sources. `flags` holds only what was given. Raises ConfigError for unknown names and bad values."""
    values: dict[str, Any] = {}
    origins = dict.fromkeys(FIELDS, "default")
    path = file or (Path(environ["XUANYUAN_CONFIG"]) if environ.get("XUANYUAN_CONFIG") else None)
    for found, origin in ((from_file(path), str(path)), (from_environ(environ), None), (flags, "flag")):
        values |= found
        origins |= {name: origin or environ_name(name) for name in found}
    return Sourced(ServingConfig(**values), origins)


def from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    """The fields that XUANYUAN_<FIELD> variables set; an empty one sets nothing. Raises ConfigError."""
    names = {environ_name(name): item for name, item in FIELDS.items()}
    given = [name for name in environ if name.startswith("XUANYUAN_") and name not in OTHER_NAMES and environ[name]]
    for name in given:
        if name not in names:
            raise ConfigError(
                f"environment variable {name} is not a setting{near(name, list(names))}; see `xuanyuan config`"
            )
        if environ[name].startswith("tcp://"):
            raise ConfigError(
                f"{name}={environ[name]!r} comes from a Kubernetes Service of the name xuanyuan, not from you: "
                "set enableServiceLinks: false in the pod"
            )
    return {names[name].name: parse(names[name], environ[name]) for name in given}


def from_file(path: Path | None) -> dict[str, Any]:
    """The fields that a TOML file sets. Raises ConfigError for an unreadable file, an unknown or ill-typed field."""
    if path is None:
        return {}
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration file {path}: not TOML: {error}") from None
    return {name: from_toml(path, name, value) for name, value in data.items()}


def from_toml(path: Path, name: str, value: object) -> Any:
    """One value of the file, checked against its field's type."""
    if name not in FIELDS:
        raise ConfigError(f"{path}: {name!r} is not a setting{near(name, list(FIELDS))}; see `xuanyuan config`")
    kind = kind_of(FIELDS[name])
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        expected = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}[kind]
        raise ConfigError(f"{path}: {name} = {value!r}: expected {expected}")
    return value


def kind_of(item: "dataclasses.Field[Any]") -> type[bool] | type[int] | type[float] | type[str]:
    """The type of a field's value, None aside."""
    for kind in (bool, int, float):
        if item.type is kind:
            return kind
    return str


def to_environ(config: ServingConfig) -> dict[str, str]:
    """The XUANYUAN_<FIELD> variables that give `config` again; values that are defaults are left out."""
    words = {value: word for word, value in BOOLEANS.items() if word in ("true", "false")}
    changed = {name: getattr(config, name) for name, item in FIELDS.items() if getattr(config, name) != item.default}
    return {
        environ_name(name): words[value] if isinstance(value, bool) else str(value) for name, value in changed.items()
    }

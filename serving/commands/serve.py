"""Start the server: an OpenAI-compatible API on http://127.0.0.1:8000.

MODEL is a name from `xuanyuan models`, a local folder, or a Hugging Face or ModelScope id. Without MODEL and without a
GPU a small demo model is served. What comes after -- goes to vLLM unchanged.

  xuanyuan serve
  xuanyuan serve XuanYuan-6B-Chat-4bit --port 8080
  xuanyuan serve /models/XuanYuan-6B-Chat -- --seed 7
"""

import argparse
import os
from collections.abc import Mapping
from typing import Any, NoReturn

from serving.config import FIELDS, ServingConfig, load_config
from serving.errors import ConfigError
from serving.flags import add_setting_flags, given
from serving.guard.settings import parse
from serving.hardware import declared
from serving.launch import Prepared, prepare, serve
from serving.log import log

# Settings that are flags of vLLM's too, under the same name.
SHARED = (
    "host",
    "port",
    "served_model_name",
    "dtype",
    "max_model_len",
    "max_num_seqs",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "tensor_parallel_size",
    "pipeline_parallel_size",
)
LAUNCHER_ONLY = {
    "model": "give the model before the --, where it is checked",
    "api_server_count": "give it before the --, for the guard has to know it too",
    "uds": "the launcher listens on host and port",
    "headless": "the launcher starts a server",
}

RAY_ONLY = ("ray_address", "replicas", "autoscale", "routing", "replica_cpus", "ray_gpu", "wait_for_resources")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, every setting, and --dry-run."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="catalog name, local folder, or hub id")
    parser.add_argument("--dry-run", action="store_true", help="print vLLM's arguments and environment, and stop")
    parser.add_argument("--json", action="store_true", help="with --dry-run: as one JSON object")
    add_setting_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; returns only after a dry run."""
    if args.json and not args.dry_run:
        raise ConfigError("--json: goes with --dry-run")
    passed = tuple(args.passed)
    # A setting that vLLM is given after -- is also ours, so that port, plan, guard and banner agree with the engine.
    config = load_config(given(args) | settings_among(passed), os.environ, args.config).config
    check_ray_settings(config, given(args))
    if not args.dry_run:
        start(config, passed)
    show(rehearsed(config, passed), as_json=args.json)
    return 0


def start(config: ServingConfig, passed: tuple[str, ...]) -> NoReturn:
    """Become the server, with or without Ray, which is imported by those who use it. Raises ServingError."""
    if config.ray:
        from serving.ray.launch import serve_on_ray

        serve_on_ray(config, passed, os.environ)
    serve(config, passed, os.environ)


def rehearsed(config: ServingConfig, passed: tuple[str, ...]) -> Prepared:
    """What a dry run shows. Raises ServingError."""
    if passed:
        log("What follows -- is vLLM's: it reads that when it starts, a dry run does not")
    if config.ray:
        from serving.ray.launch import rehearse

        return rehearse(config, passed)
    return prepare(config, passed)


def check_ray_settings(config: ServingConfig, flags: Mapping[str, Any]) -> None:
    """Raises ConfigError for a flag that would change nothing without --ray, and for a card that nobody knows."""
    for name in RAY_ONLY:
        if name in flags and not config.ray:
            raise ConfigError(f"{name}={flags[name]}: works on Ray only; add --ray")
    if config.ray_gpu:
        declared(config.ray_gpu)


def settings_among(passed: tuple[str, ...]) -> dict[str, Any]:
    """The settings that vLLM's own flags set. Raises ConfigError for a flag that only the launcher may give to vLLM."""
    found = {}
    for index, word in enumerate(passed):
        flag, equals, text = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--") and name in LAUNCHER_ONLY:
            raise ConfigError(f"{flag} after --: {LAUNCHER_ONLY[name]}")
        if flag.startswith("--") and name in SHARED:
            value = text if equals else "".join(passed[index + 1 : index + 2])
            found[name] = parse(FIELDS[name], value)
    return found


def show(prepared: Prepared, *, as_json: bool) -> None:
    """Print what the engine would be started with."""
    if as_json:
        print(prepared.spec.to_json())
        return
    for name, value in sorted(prepared.spec.env.items()):
        print(f"{name}={value}")
    for word in prepared.spec.args:
        print(("" if word.startswith("--") else "    ") + word)

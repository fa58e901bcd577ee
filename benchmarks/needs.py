"""What each system needs before it can be started here, and how to get it where it is lacking."""

import importlib.util
from pathlib import Path

from benchmarks import llama_cpp
from benchmarks.console import BenchmarkError

RAY = ("ray", "vllm", "pyarrow", "mmh3", "pandas", "jsonref", "hf_transfer", "smart_open")
MODULES = {
    "launcher": ("vllm",),
    "plain": ("vllm",),
    "hf": ("transformers", "torch"),
    "hf-batch": ("transformers", "torch"),
    "ray": RAY,
    "llama.cpp": ("gguf",),
}


def lacking(name: str, llama_server: Path | None = None) -> str:
    """Why the system of this name cannot be started, and what would bring it; "" if it can. Nothing is imported."""
    missing = [module for module in MODULES[name] if importlib.util.find_spec(module) is None]
    if missing:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; make install brings it"
    if name == "llama.cpp":
        try:
            llama_cpp.find_binary(llama_server)
        except BenchmarkError as error:
            return str(error)
    return ""

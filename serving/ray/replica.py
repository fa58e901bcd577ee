"""One replica, a Ray actor: `ray.serve.llm`'s server with this project's engine settings, log and way to die."""

import asyncio
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray import serve
from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.serve.llm import LLMConfig, LLMServer

from serving.config import ServingConfig, load_config
from serving.engine import thread_binding
from serving.engine_log import EngineLog
from serving.errors import EXIT_ENGINE_DIED
from serving.guard.drain import PROCESS as DRAIN
from serving.hardware import detect
from serving.launch import engine_log_path, find_model
from serving.server import allow_many_connections, not_started

ENGINE_POLL_SECONDS = 0.05
# What the open answers of a dead engine may take to tell their clients.
PARTING_SECONDS = 1.0


class Replica(LLMServer):  # type: ignore[misc]
    """Serves one copy of the model. Raises StartError, with the root cause, when its engine does not start."""

    async def __init__(self, llm_config: LLMConfig, **options: Any) -> None:  # type: ignore[misc]
        config = load_config({}, os.environ).config
        allow_many_connections()
        quiet_ray()
        own_streams()
        log = EngineLog(log_path(config, serve.get_replica_context().replica_id.unique_id))
        console = os.dup(sys.stderr.fileno())
        log.attach()
        # Also for the processes that the engine starts.
        log.redirect_output()
        try:
            bind_cores(config, llm_config)
            provide_checkpoint(config, llm_config)
            await super().__init__(llm_config, **options)
        except Exception as error:
            raise not_started(error, log) from None
        finally:
            # The guard's access lines are for people.
            os.dup2(console, sys.stderr.fileno())
            os.close(console)
        self.watching = asyncio.create_task(self.watch(), name="engine-watch")

    async def _start_engine(self) -> None:
        """Without Ray's usage report, for which a process of 400 MB would start even where it may not be sent."""
        await self.engine.start()

    async def watch(self) -> None:
        """Leave as soon as the engine is dead: a closed port sends new requests elsewhere, and Ray starts another."""
        client = self.engine._engine_client
        while not client.errored:
            await asyncio.sleep(ENGINE_POLL_SECONDS)
        # Who still comes gets a 503 at once, and holds nothing up.
        DRAIN.begin()
        with suppress(TimeoutError):
            async with asyncio.timeout(PARTING_SECONDS):
                await DRAIN.idle()
        os._exit(EXIT_ENGINE_DIED)


class NoDownload(CallbackBase):  # type: ignore[misc]
    """Keeps Ray from looking for the checkpoint in a cloud's storage, for which it would start another process."""

    async def on_before_node_init(self) -> None:
        """Ray asks this before it looks."""
        self.ctx.run_init_node = False


def own_streams() -> None:
    """Ray Serve puts what a replica prints into a log of its own; the guard's access lines are for the console."""
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115


def quiet_ray() -> None:
    """Ray Serve tells of every request and of every change; its own log files have that."""
    for name in ("ray.serve", "ray"):
        logging.getLogger(name).setLevel(logging.WARNING)


def log_path(config: ServingConfig, replica: str) -> str | None:
    """The replica's log: beside the launcher's, with the replica's id in its name; None: the console."""
    if config.engine_log == "-":
        return None
    whole = engine_log_path(config)
    whole.parent.mkdir(parents=True, exist_ok=True)
    return str(whole.with_name(f"{whole.stem}.{replica}{whole.suffix}"))


def bind_cores(config: ServingConfig, llm_config: LLMConfig) -> None:
    """On a CPU: give this replica cores of its own, as far as the machine has them."""
    if llm_config.accelerator_config.kind != "cpu" or "VLLM_CPU_OMP_THREADS_BIND" not in os.environ:
        return
    cores = detect("cpu").cpus
    mine = max(1, int(llm_config.placement_group_config["bundles"][0]["CPU"]))
    first = serve.get_replica_context().rank.local_rank * mine % len(cores)
    turned = (*cores[first:], *cores[:first])[:mine]
    ranks = llm_config.engine_kwargs.get("tensor_parallel_size", 1)
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = thread_binding(turned, ranks)


def provide_checkpoint(config: ServingConfig, llm_config: LLMConfig) -> None:
    """On a machine that lacks the checkpoint's folder: make or download it, as the launcher did on its own."""
    source = llm_config.model_loading_config
    if not Path(source.model_source).exists():
        path, _, _ = find_model(config, detect(config.device))
        source.model_source = str(path)
        llm_config.get_engine_config().hf_model_id = str(path)

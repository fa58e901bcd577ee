"""From a prepared checkpoint to a Ray Serve application: `ray.serve.llm` with vLLM's own app in every replica."""

import dataclasses
import math
from typing import Any

from serving.config import ServingConfig, parse_autoscale
from serving.errors import ConfigError
from serving.launch import Prepared
from serving.ray.environment import DEREGISTER_SECONDS, of_ray
from serving.ray.placement import Placement
from serving.server import first_line

NAME = "xuanyuan"
# Who chooses the replica for a request.
ROUTERS = {
    "round_robin": "ray.serve.experimental.round_robin_router:RoundRobinRouter",
    "least_loaded": "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter",
    "prefix": "ray.serve.llm.request_router:PrefixCacheAffinityRouter",
    "session": "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter",
}
# Ray asks a replica so often whether it lives, and believes so many seconds of silence.
HEALTH_PERIOD_SECONDS = 2
HEALTH_TIMEOUT_SECONDS = 30
# `ray.serve.llm` sets these itself, from its own settings.
OF_RAY = ("model", "served_model_name", "host", "port", "distributed_executor_backend")
# The guard holds the queue; Ray's limit must not come before it.
NO_LIMIT = 1_000_000


def build(prepared: Prepared, placement: Placement) -> Any:
    """The Serve application. Imports the engine; raises ConfigError for what vLLM refuses."""
    from ray.serve.llm import LLMConfig, build_openai_app

    from serving.ray.replica import NoDownload, Replica

    config, plan = prepared.config, prepared.plan
    llm_config = LLMConfig(
        model_loading_config={
            "model_id": config.served_model_name or prepared.checkpoint.name,
            "model_source": str(prepared.checkpoint.path),
        },
        engine_kwargs=engine_kwargs(prepared.spec.args),
        accelerator_config={"kind": "cpu" if plan.device == "cpu" else "gpu"},
        placement_group_config={"bundles": [*map(dict, placement.bundles)], "strategy": placement.strategy},
        deployment_config=deployment(config),
        runtime_env={"env_vars": {**of_ray(), **prepared.spec.env}},
        # vLLM's counters stay in the replica's own /metrics, under the names they have everywhere.
        log_engine_metrics=False,
        server_cls=Replica,
        callback_config={"callback_class": NoDownload},
    )
    return build_openai_app({"llm_configs": [llm_config]})


def deployment(config: ServingConfig) -> dict[str, Any]:
    """Ray Serve's options of the deployment."""
    options: dict[str, Any] = {
        "name": NAME,
        # The first bundle has the replica's CPUs in it.
        "ray_actor_options": {"num_cpus": 0},
        "max_ongoing_requests": NO_LIMIT,
        "health_check_period_s": HEALTH_PERIOD_SECONDS,
        "health_check_timeout_s": HEALTH_TIMEOUT_SECONDS,
        "graceful_shutdown_timeout_s": config.drain_timeout + DEREGISTER_SECONDS + 5,
        "graceful_shutdown_wait_loop_s": 0.5,
        # A start that failed is told at once, not tried again.
        "max_constructor_retry_count": 1,
        "request_router_config": {"request_router_class": ROUTERS[config.routing]},
    }
    if not config.autoscale:
        return {**options, "num_replicas": config.replicas}
    least, most = parse_autoscale(config.autoscale)
    return {**options, "autoscaling_config": autoscaling(least, most)}


def autoscaling(least: int, most: int) -> dict[str, Any]:
    """Ray Serve's autoscaling: by the requests that a replica has at a time, quick to grow and slow to shrink."""
    return {
        "min_replicas": least,
        "initial_replicas": least,
        "max_replicas": most,
        "target_ongoing_requests": TARGET_REQUESTS,
        "upscale_delay_s": 5,
        "downscale_delay_s": 60,
        "metrics_interval_s": 2,
        "look_back_period_s": 5,
    }


# Requests at a time beyond which a replica on a few cores should add more waiting than throughput. Not measured.
TARGET_REQUESTS = 8


def engine_kwargs(words: tuple[str, ...]) -> dict[str, Any]:
    """vLLM's flags as the keyword arguments that `ray.serve.llm` takes: what vLLM's parser makes of them, no defaults.

    The parser builds nested configurations (structured outputs and the like) as the classes that vLLM expects; plain
    dictionaries would lack their defaults. Raises ConfigError for what the parser refuses.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import FrontendArgs, make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser(prog="vLLM"))
    try:
        args = parser.parse_args(list(words))
        validate_parsed_serve_args(args)
    except SystemExit:
        raise ConfigError("vLLM refused an argument given after --: its message is above") from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the engine refused its configuration: {first_line(error)}") from None
    known = {item.name for kind in (AsyncEngineArgs, FrontendArgs) for item in dataclasses.fields(kind)}
    defaults = vars(parser.parse_args([]))
    return {
        name: value
        for name, value in vars(args).items()
        if name in known and name not in OF_RAY and value != defaults.get(name)
    }


def longest_stop(config: ServingConfig) -> float:
    """Seconds that a stop may take in all."""
    return math.ceil(config.drain_timeout) + DEREGISTER_SECONDS + 15

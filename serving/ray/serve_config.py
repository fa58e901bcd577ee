"""The YAML of `serve deploy` and KubeRay's `serveConfigV2`: the application, its environment and the proxies."""

import json
from pathlib import Path
from typing import Any

from serving.config import ServingConfig, to_environ
from serving.ray.application import NAME
from serving.ray.environment import serve_environment

# Where the proxies of every machine keep their files.
FOLDER = Path("/tmp/xuanyuan-haproxy")
HEAD = """\
# Ray Serve's configuration for this service: `serve deploy FILE`, or KubeRay's spec.serveConfigV2.
# Every Ray process (head and workers) must be started with this in its environment:
"""


def serve_config(config: ServingConfig) -> dict[str, Any]:
    """The configuration as a dictionary. The machine that deploys it needs no GPU and no checkpoint."""
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": config.host, "port": config.port},
        "applications": [
            {
                "name": NAME,
                "import_path": "serving.cluster:app",
                "route_prefix": "/",
                "runtime_env": {"env_vars": {**to_environ(config), **serve_environment(config, FOLDER)}},
            }
        ],
    }


def as_yaml(config: ServingConfig) -> str:
    """The configuration as text. JSON's strings are YAML's, so no library is needed to quote them."""
    env = "".join(f"#   {name}={value}\n" for name, value in serve_environment(config, FOLDER).items())
    return HEAD + env + block(serve_config(config))


def block(value: dict[str, Any], indent: str = "") -> str:
    """A dictionary as a YAML block."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict):
            lines.append(f"{indent}{key}:\n{block(item, indent + '  ')}")
        elif isinstance(item, list):
            lines += [f"{indent}{key}:\n", *(as_item(entry, indent) for entry in item)]
        else:
            lines.append(f"{indent}{key}: {json.dumps(item, ensure_ascii=False)}\n")
    return "".join(lines)


def as_item(entry: dict[str, Any], indent: str) -> str:
    """One dictionary of a YAML list."""
    return f"{indent}- " + block(entry, indent + "  ").removeprefix(indent + "  ")

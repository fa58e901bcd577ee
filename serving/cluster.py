"""The service as a Ray Serve application that others deploy: `serve deploy` and KubeRay import `serving.cluster:app`.

Settings come from the XUANYUAN_* environment, under the names that they have everywhere; `xuanyuan ray-config` prints
the YAML with all that Ray's own processes need in theirs. `xuanyuan serve --ray` builds the same application.
"""

import os
from typing import Any

from serving.config import load_config


def build_app(environ: "os._Environ[str] | dict[str, str]" = os.environ) -> Any:
    """The application that this environment describes, planned for the cluster that this process is part of.

    Raises ConfigError for what is refused, StartError where the cluster has no room and nobody wants to wait.
    """
    from serving.ray.application import build
    from serving.ray.server import place

    return build(*place(load_config({}, environ).config, ()))


def __getattr__(name: str) -> Any:
    """`app`, built when it is asked for: importing this module needs no cluster."""
    if name == "app":
        return build_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What Ray's own processes read from their environment: one table. Ray reads most of it while it is imported.

Direct streaming: HAProxy asks a small router which copy is to answer, and vLLM's own app, with the guard around it,
answers from that copy. So a token takes one hop, and nothing re-serialises the stream.
"""

import math
import os
import secrets
import sys
from pathlib import Path

from serving.config import ServingConfig

HAPROXY = "xuanyuan-haproxy"
# Of these Ray takes the same ports whatever else runs on the machine.
FIXED_PORTS = (
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
)
# A copy that is to go stays reachable for so many seconds, in which the proxies take it off their lists.
DEREGISTER_SECONDS = 5
# Beyond the longest request: a proxy that was replaced keeps its open streams so long.
SLACK_SECONDS = 30
WITHOUT_LIMIT_SECONDS = 3600


def serve_environment(config: ServingConfig, folder: Path) -> dict[str, str]:
    """What every process of Ray Serve needs, on every machine. `folder`: where the proxies keep their files."""
    longest = math.ceil(config.request_timeout) or WITHOUT_LIMIT_SECONDS
    return {
        "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        # Ours, which starts Ray's with safer settings: haproxy.py.
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(sys.executable).parent / HAPROXY),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(longest + SLACK_SECONDS),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(DEREGISTER_SECONDS),
        # A copy that died is noticed by the proxies within half a second.
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
        # A HAProxy that died is started again after the third of these questions: by default 24 s, here 6.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        # vLLM's app runs in the copy's own event loop: no hop between threads for each token.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_INGRESS_REQUEST_ROUTER_FORWARD_BODY": "1" if config.routing == "prefix" else "0",
        "RAY_SERVE_HAPROXY_INGRESS_REQUEST_ROUTER_BUFSIZE": str(config.max_body_bytes + 65536),
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAYLLM_ENABLE_REQUEST_PROMPT_LOGS": "0",
        # What vLLM says while it is imported is of no use to anybody.
        "VLLM_LOGGING_LEVEL": "WARNING",
    }


def local_environment(folder: Path, ports: tuple[int, ...]) -> dict[str, str]:
    """What a Ray of this machine alone needs beyond that: everything on loopback, with a token only for this user.

    `ports`: free ones, one for each of FIXED_PORTS.
    """
    token = folder / "auth_token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    return {
        # Its name aside, it makes Ray use 127.0.0.1 as the node's address on every system, and listen on it alone.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        **dict(zip(FIXED_PORTS, map(str, ports), strict=True)),
        # The guard's access lines of different requests look alike to Ray, which would drop them as repeated.
        "RAY_DEDUP_LOGS": "0",
        # A run leaves no trace in the home folder.
        "RAY_TMPDIR": str(folder),
    }


def of_ray(environ: dict[str, str] | None = None) -> dict[str, str]:
    """The part of an environment that Ray Serve's processes are to be given, wherever they run."""
    source = os.environ if environ is None else environ
    return {name: source[name] for name in source if name.startswith(("RAY_SERVE_", "RAYLLM_", "VLLM_LOGGING_"))}

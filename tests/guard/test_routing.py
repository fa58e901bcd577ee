"""Which paths exist, and that no spelling of one reaches another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from serving.guard.context import Context
from serving.guard.exchange import KEY, Exchange
from serving.guard.refusal import Refusal
from serving.guard.routes import BLOCKED, ROUTES, Access, Route
from serving.guard.routing import Routing
from serving.guard.settings import GuardSettings
from serving.page import PATHS as PAGE
from tests.guard.conftest import Guarded
from tests.guard.stub import CHAT, Call, Engine, chat

pytestmark = pytest.mark.anyio
PATHS = {route.path: route for route in ROUTES}
OWN = {"/ready", "/status", *PAGE}  # what the guard itself answers


@pytest.mark.parametrize("route", [PATHS[path] for path in PATHS if path not in OWN], ids=lambda route: route.path)
async def test_every_other_route_reaches_the_engine(guarded: Guarded, engine: Engine, route: Route) -> None:
    call = await Call(guarded(), route.methods[0], route.path, body=chat()).start().done()
    assert call.status == 200
    assert engine.scopes[-1]["path"] == route.path


@pytest.mark.parametrize("path", sorted(BLOCKED))
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_is_blocked_does_not_exist(guarded: Guarded, engine: Engine, path: str, method: str) -> None:
    call = await Call(guarded(), method, path, body=chat()).start().done()
    assert (call.status, call.error["code"]) == (404, "not_found")
    assert engine.scopes == []


TRICKS = [
    "//v1/models",
    "/v1//models",
    "/v1/models/",
    "/V1/models",
    "/v1/Models",
    "/v1/../metrics",
    "/./metrics",
    "/metrics/",
    "/metricsfoo",
    "/metrics;x",
    "/v1/models\x00",
    "/v1/models ",
    " /v1/models",
    "/v1/models.",
    "/v1\\models",
    "",
    "*",
    "/v1/models/../../metrics",
    "/%6detrics",
    "/v1/%6dodels",
    "/v1%2fmodels",
    "http://localhost/metrics",
    "/v1/models#x",
    "/ｖ1/models",
    "/v1/chat/completions/batch",
    "/v1/chat",
    "/docs",
    "/openapi.json",
]


@pytest.mark.parametrize("path", TRICKS)
async def test_path_tricks_do_not_exist(guarded: Guarded, engine: Engine, path: str) -> None:
    call = await Call(guarded(), "GET", path).start().done()
    assert call.status == 404
    assert engine.scopes == []


@pytest.mark.parametrize("raw", [b"/%76%31/models", b"/v1%2Fmodels", b"/v1/mod%65ls", b"/metrics", b""])
async def test_an_encoded_path_does_not_pass_as_the_decoded_one(guarded: Guarded, engine: Engine, raw: bytes) -> None:
    call = await Call(guarded(), "GET", "/v1/models", raw_path=raw).start().done()
    assert call.status == 404
    assert engine.scopes == []


@given(
    path=st.text(max_size=30)
    | st.sampled_from(sorted(PATHS)).flatmap(lambda path: st.text(max_size=3).map(path.__add__))
)
async def test_only_the_exact_path_is_classified(path: str) -> None:
    """Whatever is asked for, either it is a path of the table letter for letter, or it does not exist."""
    reached: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])

    context = Context(GuardSettings(), app)
    scope: Scope = {"path": path, "method": "GET", "headers": [], "raw_path": path.encode("utf-8", "surrogatepass")}
    scope[KEY] = Exchange(scope, None, None, context)  # type: ignore[arg-type]
    try:
        await Routing(app, context)(scope, None, None)  # type: ignore[arg-type]
    except Refusal as refusal:
        assert refusal.status == (405 if path in PATHS else 404)
    assert all(path in PATHS and "GET" in PATHS[path].methods for path in reached)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", CHAT, "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/health", "GET, HEAD"),
        ("OPTIONS", CHAT, "POST"),
        ("post", CHAT, "POST"),
        ("TRACE", "/metrics", "GET, HEAD"),
    ],
)
async def test_another_method_is_refused_and_told_which_ones(
    guarded: Guarded, method: str, path: str, allow: str
) -> None:
    call = await Call(guarded(), method, path).start().done()
    assert (call.status, call.answer["allow"], call.error["code"]) == (405, allow, "method_not_allowed")


async def test_the_method_cannot_be_overridden(guarded: Guarded, engine: Engine) -> None:
    headers = {"x-http-method-override": "POST", "x-original-url": "/docs", "x-rewrite-url": "/docs"}
    call = await Call(guarded(), "GET", CHAT, headers=headers).start().done()
    assert call.status == 405
    await Call(guarded(), "GET", "/v1/models", headers=headers).start().done()
    assert [(scope["method"], scope["path"]) for scope in engine.scopes] == [("GET", "/v1/models")]


async def test_no_path_is_both_open_and_blocked() -> None:
    assert not PATHS.keys() & BLOCKED
    assert {route.path for route in ROUTES if route.access is Access.PUBLIC} == {"/health", "/ready", *PAGE}


async def test_websockets_are_closed_and_the_lifespan_passes(guarded: Guarded, engine: Engine) -> None:
    sent: list[str] = []
    seen: list[str] = []

    async def app(scope: object, receive: object, send: object) -> None:
        seen.append(scope["type"])  # type: ignore[index]

    guard = guarded()
    guard.app = app

    async def send(message: object) -> None:
        sent.append(message["type"])  # type: ignore[index]

    await guard({"type": "websocket", "path": "/v1/realtime"}, None, send)  # type: ignore[arg-type]
    await guard({"type": "lifespan"}, None, send)  # type: ignore[arg-type]
    assert (sent, seen) == (["websocket.close"], ["lifespan"])

"""Layer: lets through what the table of routes names, and tells the layers behind it which route a request is on."""

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.guard.context import Context
from serving.guard.exchange import Exchange
from serving.guard.refusal import Refusal
from serving.guard.routes import ROUTES
from serving.page import PATHS as PAGE

LENGTHS = {b"content-length", b"transfer-encoding"}


class Routing:
    """Refuses paths and methods that are not in the table."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        self.table = {route.path: route for route in ROUTES if context.settings.page or route.path not in PAGE}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if LENGTHS.issubset(name for name, _ in scope["headers"]):
            # A proxy in front may believe one and this server the other: then a body's tail is a request of its own.
            message = "Content-Length and Transfer-Encoding exclude each other."
            raise Refusal(400, "ambiguous_length", message, headers={"connection": "close"})
        route = self.table.get(scope["path"])
        # The raw path is what the peer wrote. Where it differs from the decoded one, something in it was encoded.
        if route is None or scope.get("raw_path") not in (None, route.path.encode()):
            raise Refusal(404, "not_found", "There is no such path here. The API is under /v1.")
        Exchange.of(scope).route = route
        if scope["method"] not in route.methods:
            allowed = ", ".join(route.methods)
            message = f"{route.path} takes {allowed}, not {scope['method'][:16]}."
            raise Refusal(405, "method_not_allowed", message, headers={"allow": allowed})
        await self.app(scope, receive, send)

"""Layer: the page at / and its files, out of the package `serving.page`."""

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.guard.answer import send_answer
from serving.guard.context import Context
from serving.guard.exchange import Exchange
from serving.page import load

# Scripts and styles are files of this server, nothing else is loaded or asked from anywhere, nobody may frame the page,
# and no script may make HTML out of text.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    # Kept, and asked for again each time: after an upgrade no old script meets a new one.
    (b"cache-control", b"no-cache"),
)


class Page:
    """Answers the page's paths. With `page` off there are none: see routing.py."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        self.assets = load() if context.settings.page else {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asset = self.assets.get(Exchange.of(scope).route.path)
        if asset is None:
            await self.app(scope, receive, send)
            return
        etag = asset.etag.encode()
        headers = [(b"content-type", asset.type.encode()), (b"etag", etag), *HEADERS]
        if any(name == b"if-none-match" and value == etag for name, value in scope["headers"]):
            await send_answer(scope, send, 304, headers, b"")
        else:
            await send_answer(scope, send, 200, headers, asset.content)

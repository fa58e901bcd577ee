"""Layer: who asks, and whether they may. A key goes no further than here."""

import ipaddress
from functools import lru_cache
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.guard.context import Context
from serving.guard.exchange import Exchange
from serving.guard.key_file import KeyFile
from serving.guard.refusal import Refusal
from serving.guard.routes import Access
from serving.keys import SCOPES, Key, digest

CREDENTIALS = (b"authorization", b"x-api-key")
ANONYMOUS = Key("anonymous", digest(""), scopes=SCOPES)
LOCAL_NAMES = ("localhost", "")


class Authentication:
    """Asks for a key wherever a route is not public.

    Without a keys file everyone is "anonymous", but only on this machine unless `allow_anonymous` is set: the client's
    address is a loopback one, and so is the Host it asked for, lest a web page reach the server under its own name.
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        self.wall = context.wall
        self.allow_anonymous = context.settings.allow_anonymous
        file = context.settings.keys_file
        self.keys = KeyFile(Path(file), context.clock) if file else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        access = exchange.route.access
        if access is not Access.PUBLIC:
            exchange.key = key = self.by_secret(scope, self.keys) if self.keys else self.anonymous(scope)
            if access.value not in key.scopes and "admin" not in key.scopes:
                raise Refusal(403, "missing_scope", f"This key does not have the scope {access.value}.")
        scope["headers"] = [header for header in scope["headers"] if header[0] not in CREDENTIALS]
        await self.app(scope, receive, send)

    def by_secret(self, scope: Scope, keys: KeyFile) -> Key:
        """The key that the request carries. Raises Refusal."""
        secret = credential(scope)
        if not secret:
            raise unauthorized(
                "missing_api_key", "Send your API key as 'Authorization: Bearer KEY' or 'x-api-key: KEY'."
            )
        key = keys.find(secret)
        if key is None:
            raise unauthorized("invalid_api_key", "This API key is not known here.")
        if key.expires_at <= self.wall():
            raise unauthorized("expired_api_key", "This API key has expired.")
        return key

    def anonymous(self, scope: Scope) -> Key:
        """Whoever it is, if they may ask without a key. Raises Refusal."""
        client = scope.get("client")
        if not self.allow_anonymous and not (client and is_local(client[0]) and is_local(host(scope))):
            message = "Without keys this server answers its own machine only. Start it with --keys-file."
            raise unauthorized("missing_api_key", message)
        return ANONYMOUS


def unauthorized(code: str, message: str) -> Refusal:
    """A refusal for want of a good key."""
    return Refusal(401, code, message, headers={"www-authenticate": "Bearer"})


def credential(scope: Scope) -> str:
    """The secret in the first header that holds one, else ''. Bytes outside ASCII cannot match any key."""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return str(value.strip().decode("ascii", "replace"))
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return str(value[7:].strip().decode("ascii", "replace"))
    return ""


def host(scope: Scope) -> str:
    """The name that the client asked for, without its port; '' where it names none."""
    value = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("ascii", "replace")
    return value[1:].partition("]")[0] if value.startswith("[") else value.partition(":")[0]


@lru_cache(maxsize=1024)
def is_local(name: str) -> bool:
    """Whether a name or address is this machine's loopback."""
    if name.lower() in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

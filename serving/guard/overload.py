"""Layer: while the line is so long that nobody could join it, a request is refused before anything is done for it.

Neither its body is waited for nor the key's limits are asked (or used up): a refusal is to cost as little of the
processor as can be, for the engine may be on the same one. The layer Admission, behind, decides by what a request asks
for.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.guard.admission import check
from serving.guard.context import Context
from serving.guard.exchange import Exchange
from serving.guard.line import Place

SMALLEST = Place(sequences=1, tokens=0)


class Overload:
    """Refuses every request while even the smallest one would wait too long."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        self.settings = context.settings
        self.line = context.line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.line and Exchange.of(scope).route.generates:
            check(self.line, SMALLEST, self.settings)
        await self.app(scope, receive, send)

"""A server that knows what it should say: each text's tokens with their log probabilities, each question's letter.

A character is a token, and losses depend on their places alone, so that every number can be worked out by hand.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web


class Oracle:
    """`loss` of every token; every `odd`th place has another likeliest token; answers of `length` tokens.

    Of these every `endless`th does not stop. It `knows` the letters of so many of ten questions.
    """

    def __init__(self, loss: float = 1.0, odd: int = 0, length: int = 20, endless: int = 0, knows: int = 10) -> None:
        self.loss, self.odd, self.length, self.endless, self.knows = loss, odd, length, endless, knows
        self.asked: list[dict[str, Any]] = []

    async def completions(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        return web.json_response(self.read(body["prompt"]) if body.get("echo") else self.choose(body["prompt"]))

    def read(self, text: str) -> dict[str, Any]:
        """As vLLM echoes a prompt and one new token."""
        words = [*text, "new"]
        tops: list[dict[str, float] | None] = [
            {word: -self.loss, "other": 0.0 if self.odd and place % self.odd == 0 else -9.0}
            for place, word in enumerate(words)
        ]
        values: list[float | None] = [-self.loss for _ in words]
        tops[0] = values[0] = None
        found = {"tokens": words, "token_logprobs": values, "top_logprobs": tops}
        return {"choices": [{"text": "", "logprobs": found}], "usage": {"prompt_tokens": len(words) - 1}}

    def choose(self, text: str) -> dict[str, Any]:
        """The letter after the question's number, or another one; among tokens that are no letters."""
        number, letter = text.rpartition("#")[2].split()[:2]
        said = letter if int(number) % 10 < self.knows else "ABCD"[("ABCD".index(letter) + 1) % 4]
        top = {"The": -0.1, f" {said}": -1.0, "A": -2.0, "E": -0.5}
        return {"choices": [{"text": "The", "logprobs": {"top_logprobs": [top]}}], "usage": {}}

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        place = len([one for one in self.asked if "messages" in one])
        self.asked.append(body)
        reason = "length" if self.endless and place % self.endless == 0 else "stop"
        return web.json_response({"choices": [{"finish_reason": reason}], "usage": {"completion_tokens": self.length}})

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "oracle"}]})

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/completions", self.completions)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/v1/models", self.models)
        return app


@contextmanager
def serving(oracle: Oracle) -> Iterator[str]:
    """Its address, while it serves in a thread."""
    loop, started, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    address: list[str] = []

    async def serve() -> None:
        runner = web.AppRunner(oracle.app())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        started.set()
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait(10)
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.close()

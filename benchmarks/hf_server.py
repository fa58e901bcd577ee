"""Hugging Face `generate` behind the OpenAI API, so that it is measured by the same client as everything else.

    python -m benchmarks.hf_server --model FOLDER --port 8001 --batch 1

It loads the model as the family's card does and answers one request at a time; with --batch, whatever waits, together.
Decoding is greedy and the answer's length fixed, as for every system that is compared.
"""

import argparse
import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import torch
from aiohttp import web
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import BaseStreamer

from benchmarks.systems import SERVED_NAME

# How long a batch waits for company once its first request is there.
GATHER_S = 0.02


@dataclass
class Job:
    """One request: its prompt, how long its answer is to be, and where its tokens go; None ends them."""

    prompt: list[int]
    wanted: int
    ignore_eos: bool
    tokens: asyncio.Queue[int | None] = field(default_factory=asyncio.Queue)
    given: int = 0


class Hand(BaseStreamer):  # type: ignore[misc]
    """Hands each step's tokens to the jobs of a batch, from the thread that generates."""

    def __init__(self, jobs: list[Job], stops: set[int], loop: asyncio.AbstractEventLoop) -> None:
        self.jobs, self.stops, self.loop = list(jobs), stops, loop
        self.prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """The prompts come first, as a whole; then one token for each job."""
        if not self.prompt_seen:
            self.prompt_seen = True
            return
        for job, token in zip(self.jobs, value.tolist(), strict=True):
            if job.given < job.wanted:
                job.given += 1
                self.loop.call_soon_threadsafe(job.tokens.put_nowait, token)
                if token in self.stops and not job.ignore_eos:
                    job.given = job.wanted
                if job.given == job.wanted:
                    self.loop.call_soon_threadsafe(job.tokens.put_nowait, None)

    def end(self) -> None:
        """Every job has had its end by then."""


class HuggingFace:
    """The model, and the line of requests before it."""

    def __init__(self, folder: str, batch: int) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, device_map="auto").eval()
        self.batch = batch
        self.waiting: asyncio.Queue[Job] = asyncio.Queue()
        stops = self.model.generation_config.eos_token_id
        self.stops = set(stops if isinstance(stops, list) else [stops])

    async def work(self) -> None:
        """Generate for ever: the first that waits, and as many more as fit into the batch."""
        while True:
            jobs = [await self.waiting.get()]
            if self.batch > 1:
                await asyncio.sleep(GATHER_S)
            while len(jobs) < self.batch and not self.waiting.empty():
                jobs.append(self.waiting.get_nowait())
            await asyncio.to_thread(self.generate, jobs, asyncio.get_running_loop())

    def generate(self, jobs: list[Job], loop: asyncio.AbstractEventLoop) -> None:
        """One call of `generate`. Prompts (jobs x longest) are padded on the left."""
        longest = max(len(job.prompt) for job in jobs)
        padding = [longest - len(job.prompt) for job in jobs]
        stop = next(iter(self.stops))
        ids = torch.tensor([[stop] * pad + job.prompt for pad, job in zip(padding, jobs, strict=True)])
        mask = torch.tensor([[0] * pad + [1] * len(job.prompt) for pad, job in zip(padding, jobs, strict=True)])
        count = max(job.wanted for job in jobs)
        with torch.inference_mode():
            self.model.generate(
                input_ids=ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                max_new_tokens=count,
                min_new_tokens=count if any(job.ignore_eos for job in jobs) else None,
                do_sample=False,
                pad_token_id=stop,
                streamer=Hand(jobs, self.stops, loop),
            )

    def prompt(self, body: dict[str, Any]) -> list[int]:
        """The token ids of a chat or of a completion."""
        if "messages" in body:
            rendered = self.tokenizer.apply_chat_template(
                body["messages"], add_generation_prompt=True, return_dict=True
            )
            return list(rendered["input_ids"])
        prompt = body["prompt"]
        return list(self.tokenizer(prompt)["input_ids"]) if isinstance(prompt, str) else prompt

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Stream one answer as the API's events, each token as it comes."""
        body = await request.json()
        job = Job(self.prompt(body), body["max_tokens"], body.get("ignore_eos", False))
        await self.waiting.put(job)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        count = 0
        while (token := await job.tokens.get()) is not None:
            count += 1
            reason = "length" if count == job.wanted else None
            choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
            text = self.tokenizer.decode([token])
            choice |= {"delta": {"content": text}} if "messages" in body else {"text": text}
            await response.write(event({"choices": [choice]}))
        usage = {"prompt_tokens": len(job.prompt), "completion_tokens": count, "total_tokens": len(job.prompt) + count}
        await response.write(event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")
        return response


def event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


async def models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": SERVED_NAME, "object": "model"}]})


async def serve(args: argparse.Namespace) -> None:
    """Serve until the process ends."""
    server = HuggingFace(args.model, args.batch)
    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/completions", server.answer)
    app.router.add_post("/v1/chat/completions", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", args.port).start()
    await server.work()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="FOLDER")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1, help="requests at a time (default: %(default)s)")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()

"""Bytes that no well-meaning client sends, made from a seed: broken JSON, broken HTTP, and both at once."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

Draw = random.Random
NASTY_TEXT = (
    "",
    "\x00",
    "\ud800",
    "\udfff\ud800",
    "\u202e",
    "\ufeff",
    "<|im_end|>",
    "</s>",
    "a" * 5000,
    "财" * 700,
    "%s%n",
)
NASTY_VALUES = (
    "1e999", "-1e999", "1e-999", "NaN", "-Infinity", "9" * 400, "-" + "9" * 400, "9" * 5000, "18446744073709551616",
    "-9223372036854775809", "0.1e1", "-0", "01", "1.", "0x10", "true", "null", "[]", "{}", '""', '"1"', "[[]]",
    "[null]", "1e308", "2147483648", "-1", "0",
)  # fmt: skip
OPTIONS = (
    "max_tokens", "n", "temperature", "top_p", "top_k", "seed", "stop", "logit_bias", "logprobs", "priority", "echo",
    "stream_options", "response_format", "structured_outputs", "tools", "suffix", "min_tokens", "stop_token_ids",
    "truncate_prompt_tokens", "user", "kv_transfer_params", "repetition_penalty", "presence_penalty", "bad_words",
    "allowed_token_ids", "vllm_xargs", "prompt_embeds", "chat_template", "chat_template_kwargs", "documents",
    "reasoning_effort", "cache_salt", "request_id",
)  # fmt: skip


MODEL = "SmolLM2-135M-Instruct"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Once"}], "max_tokens": 4}
SAMPLES: dict[str, dict[str, object]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": MODEL, "prompt": "Once", "max_tokens": 4, "stream": True},
    "/v1/responses": {"model": MODEL, "input": "Once", "max_output_tokens": 4, "store": False},
    "/v1/messages": CHAT,
    "/v1/messages/count_tokens": {"model": MODEL, "messages": CHAT["messages"]},
    "/tokenize": {"model": MODEL, "prompt": "Once"},
    "/detokenize": {"model": MODEL, "tokens": [1, 2, 3]},
}
PATHS = tuple(SAMPLES)
HEADERS = (
    b"Content-Type: text/plain", b"Content-Type:", b"Content-Type: application/json; charset=utf-16", b"Accept: \x01",
    b"Content-Encoding: gzip", b"Content-Length: -1", b"Expect: 200-ok", b"Host: \xff", b"Upgrade: h2c", b"no colon",
    b"X-Request-Id: " + b"\xff" * 9, b"X-Request-Id: " + b"a" * 500, b"Authorization: Bearer \x80", b" folded: x",
    b"traceparent: 00-x", b"X-data-parallel-rank: 99", b"X-Session-ID: \xe4", b"Range: bytes=0-1",
    b"endpoint-load-metrics-format: JSON",
)  # fmt: skip


@dataclass(frozen=True)
class WireCase:
    """Bytes to send on a new connection; `half_close`: and that no more will come. `kind` names the maker."""

    kind: str
    sent: bytes
    half_close: bool


def request(path: str, body: bytes, *headers: bytes, method: bytes = b"POST", length: bool = True) -> bytes:
    """One HTTP request after which the connection is to be closed."""
    lines = [method + b" " + path.encode() + b" HTTP/1.1", b"Host: localhost", b"Connection: close"]
    lines += [b"Content-Type: application/json", *headers]
    lines += [b"Content-Length: %d" % len(body)] if length else []
    return b"\r\n".join([*lines, b"", body])


def bad_utf8(draw: Draw, path: str) -> bytes:
    """A good body with a few bytes that are no UTF-8 in it."""
    body = bytearray(json.dumps(SAMPLES[path]).encode())
    for _ in range(draw.randint(1, 4)):
        body.insert(draw.randrange(len(body)), draw.choice((0xFF, 0xC0, 0x80, 0xED, 0xF8)))
    return request(path, bytes(body))


def control_bytes(draw: Draw, path: str) -> bytes:
    """NUL and its neighbours, raw or escaped, in a body that is good otherwise."""
    mark = draw.choice((b"\x00", b"\x1f", b"\\u0000", b"\\u001b", b"\x7f"))
    body = json.dumps(SAMPLES[path]).encode()
    place = draw.choice((body.find(b"Once"), draw.randrange(len(body))))
    return request(path, body[:place] + mark + body[place:])


def deep(draw: Draw, path: str) -> bytes:
    """JSON nested up to 100,000 deep, closed or not."""
    depth = draw.choice((33, 1000, 100_000))
    left, right = draw.choice(((b"[", b"]"), (b'{"a":', b"}")))
    value = left * depth + b"1" + right * (depth if draw.random() < 0.7 else 0)
    name = draw.choice(sorted(SAMPLES[path]))
    return request(path, draw.choice((value, b'{"%s":%s}' % (name.encode(), value))))


def odd_value(draw: Draw, path: str) -> bytes:
    """A good body but for one value: a number without end, of the wrong type, out of range."""
    document = SAMPLES[path]
    name = draw.choice([*document, *OPTIONS])
    fields = {key: json.dumps(value) for key, value in document.items()} | {name: draw.choice(NASTY_VALUES)}
    return request(path, ("{" + ",".join(f'"{key}":{value}' for key, value in fields.items()) + "}").encode())


def odd_text(draw: Draw, path: str) -> bytes:
    """A good body but for one text: half surrogates, marks, control tokens."""
    text = json.dumps(draw.choice(NASTY_TEXT) + draw.choice(NASTY_TEXT))
    return request(path, json.dumps(SAMPLES[path]).replace('"Once"', text).encode())


def duplicated(draw: Draw, path: str) -> bytes:
    """A name that stands twice."""
    body = json.dumps(SAMPLES[path])
    name = draw.choice(sorted(SAMPLES[path]))
    return request(path, (body[:-1] + f',"{name}":{draw.choice(NASTY_VALUES[8:])}' + "}").encode())


def mutated(draw: Draw, path: str) -> bytes:
    """A good request in which bytes were lost, repeated or replaced."""
    sent = bytearray(request(path, json.dumps(SAMPLES[path]).encode()))
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(sent))
        piece = draw.choice((b"", sent[place : place + 2] * 2, bytes([draw.randrange(256)]), b"\r\n", b"\x00"))
        sent[place : place + draw.randint(0, 3)] = piece
    return bytes(sent)


def chunking(draw: Draw, path: str) -> bytes:
    """A chunked body whose lengths are wrong, without end, or no numbers."""
    body = json.dumps(SAMPLES[path]).encode()
    size = draw.choice(
        (b"%x" % len(body), b"%x" % (len(body) + 5), b"-1", b"", b"zz", b"f" * 40, b"0", b"5;x=" + b"y" * 999)
    )
    end = draw.choice((b"\r\n0\r\n\r\n", b"0\r\n\r\n", b"\r\n0\r\nX: y\r\n\r\n", b"", b"\r\n0\r\n" + b"T: z\r\n" * 50))
    chunks = size + b"\r\n" + body + end
    return request(
        path,
        chunks,
        b"Transfer-Encoding: " + draw.choice((b"chunked", b"chunked, chunked", b"gzip, chunked", b"identity")),
        length=False,
    )


def two_lengths(draw: Draw, path: str) -> bytes:
    """Both length headers, or two different lengths, with a request to somewhere else in what could be the body."""
    smuggled = b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    headers = [b"Transfer-Encoding: chunked", b"Content-Length: %d" % draw.choice((0, 4, len(smuggled), 10**6))]
    if draw.random() < 0.3:
        headers[0] = b"Content-Length: 5"
    draw.shuffle(headers)
    return request(path, smuggled, *headers, length=False)


def giant_headers(draw: Draw, path: str) -> bytes:
    """Headers or a request line of up to 300 kB."""
    size = draw.choice((8_000, 66_000, 300_000))
    if draw.random() < 0.3:
        return request(path + "?" + "q" * size, b"{}")
    return request(
        path, b"{}", *draw.choice(([b"X-Long: " + b"y" * size], [b"X-%d: z" % i for i in range(size // 10)]))
    )


def odd_headers(draw: Draw, path: str) -> bytes:
    """A good body under headers that are not."""
    header = draw.choice(HEADERS)
    method = draw.choice((b"POST", b"POST", b"GET", b"PUT", b"OPTIONS", b"HEAD", b"CONNECT", b"\x01", b"post"))
    return request(path, json.dumps(SAMPLES[path]).encode(), header, method=method)


def odd_path(draw: Draw, path: str) -> bytes:
    """Paths that mean, or nearly mean, a route."""
    path = draw.choice(
        (
            "/" + path,
            path + "/",
            path.upper(),
            path + "%00",
            "/v1/../metrics",
            "/%2e%2e/metrics",
            "*",
            "http://x" + path,
            path + "?a=%ff",
            path + "#x",
        )
    )
    return request(path, json.dumps({"model": "x"}).encode())


def garbage(draw: Draw, path: str) -> bytes:
    """No HTTP at all."""
    start = draw.choice(
        (b"", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET ", b"\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n")
    )
    return start + draw.randbytes(draw.choice((0, 1, 100, 5000, 100_000)))


def cut_short(draw: Draw, path: str) -> bytes:
    """A good request that ends in the middle."""
    sent = request(path, json.dumps(SAMPLES[path]).encode())
    return sent[: draw.randrange(len(sent))]


MAKERS: tuple[Callable[[Draw, str], bytes], ...] = (
    bad_utf8, control_bytes, deep, odd_value, odd_value, odd_value, odd_text, duplicated, mutated, mutated, chunking,
    two_lengths, giant_headers, odd_headers, odd_path, garbage, cut_short,
)  # fmt: skip


def wire_cases(count: int, seed: int) -> list[WireCase]:
    """So many cases; the same ones for the same seed."""
    draw = random.Random(seed)
    cases = []
    for number in range(count):
        maker = MAKERS[number % len(MAKERS)]
        sent = maker(draw, draw.choice(PATHS))
        # What is cut short would wait for its rest until the server's time limit.
        half_close = maker is cut_short or draw.random() < 0.25
        cases.append(WireCase(maker.__name__, sent, half_close))
    return cases

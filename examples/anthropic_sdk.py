"""Anthropic's SDK on /v1/messages: an answer as it comes, after a first turn and with a system message.

    python examples/anthropic_sdk.py "And what is a stock?"

ANTHROPIC_BASE_URL (without /v1) and ANTHROPIC_API_KEY name another server than the one on this machine.
"""

import os
import sys

from anthropic import Anthropic

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "And what is a stock?"

client = Anthropic(
    base_url=os.environ.get("ANTHROPIC_BASE_URL") or "http://127.0.0.1:8000",
    api_key=os.environ.get("ANTHROPIC_API_KEY") or "none",  # the SDK wants some text where the server wants no key
)
with client.messages.stream(
    model=client.models.list().data[0].id,
    max_tokens=64,
    extra_body={"temperature": 0},  # this SDK has no argument for it any more, the server has
    system="You explain finance in plain words.",
    messages=[
        {"role": "user", "content": "What is a bond?"},
        {"role": "assistant", "content": "A loan to a company or a state that can be bought and sold."},
        {"role": "user", "content": QUESTION},
    ],
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
    usage = stream.get_final_message().usage
print(f"\n{usage.input_tokens} tokens in, {usage.output_tokens} out", file=sys.stderr)

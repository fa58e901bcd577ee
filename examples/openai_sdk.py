"""OpenAI's SDK: an answer as it comes, then what it took.

    python examples/openai_sdk.py "What is a bond?"

OPENAI_BASE_URL and OPENAI_API_KEY name another server than the one on this machine.
"""

import os
import sys

from openai import OpenAI

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What is a bond?"

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL") or "http://127.0.0.1:8000/v1",
    api_key=os.environ.get("OPENAI_API_KEY") or "none",  # the SDK wants some text where the server wants no key
)
stream = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[{"role": "user", "content": QUESTION}],
    max_tokens=64,
    temperature=0,
    stream=True,
    stream_options={"include_usage": True},
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    usage = chunk.usage  # so far; the last chunk has all of it
print()
if usage:
    print(f"{usage.prompt_tokens} tokens in, {usage.completion_tokens} out", file=sys.stderr)

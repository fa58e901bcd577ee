"""Answers out of one's own text: the best passages go into the question. No tools, no vector database.

    python examples/rag.py "What is the yearly charge of the Harbour Bond Fund?"

Passages are ranked by the pieces of two and three characters that they share with the question, rare ones counting
more: that suits Chinese, which has no spaces, as well as English. Server: see openai_sdk.py.
"""

import math
import os
import re
import sys
from pathlib import Path

from openai import OpenAI

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What is the yearly charge of the Harbour Bond Fund?"
PASSAGES = Path(__file__).with_name("finance.txt").read_text(encoding="utf-8").strip().split("\n\n")


def pieces(text: str) -> set[str]:
    text = re.sub(r"\W+", " ", text.lower())
    return {text[at : at + size] for size in (2, 3) for at in range(len(text) - size + 1)}


def score(passage: str) -> float:
    shared = pieces(QUESTION) & pieces(passage)
    return sum(math.log(len(PASSAGES) / sum(piece in pieces(other) for other in PASSAGES)) for piece in shared)


best = sorted(PASSAGES, key=score, reverse=True)[:2]
url, key = os.environ.get("OPENAI_BASE_URL") or "http://127.0.0.1:8000/v1", os.environ.get("OPENAI_API_KEY") or "none"
client = OpenAI(base_url=url, api_key=key)
prompt = "\n".join([*best, f"\nAnswer from the text above, in one sentence: {QUESTION}"])
answer = client.chat.completions.create(
    model=client.models.list().data[0].id, messages=[{"role": "user", "content": prompt}], max_tokens=48, temperature=0
)
print("Found:", *best, "", f"Answer: {answer.choices[0].message.content}", sep="\n")

"""LiteLLM: one call for many providers, this server being one that speaks OpenAI's API.

    python examples/litellm_chat.py "What is a bond?"

OPENAI_BASE_URL and OPENAI_API_KEY name another server than the one on this machine.
"""

import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the import downloads a price list

import litellm
from openai import OpenAI

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What is a bond?"
URL = os.environ.get("OPENAI_BASE_URL") or "http://127.0.0.1:8000/v1"
KEY = os.environ.get("OPENAI_API_KEY") or "none"  # some text is wanted where the server wants no key

model = OpenAI(base_url=URL, api_key=KEY).models.list().data[0].id
answer = litellm.completion(
    model=f"hosted_vllm/{model}",
    api_base=URL,
    api_key=KEY,
    messages=[{"role": "user", "content": QUESTION}],
    max_tokens=64,
    temperature=0,
)
print(answer.choices[0].message.content)

"""LangChain: a prompt template, the model and a parser in one chain, asked several questions at a time.

    python examples/langchain_chat.py bond stock

OPENAI_BASE_URL and OPENAI_API_KEY name another server than the one on this machine.
"""

import os
import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from openai import OpenAI

WORDS = sys.argv[1:] or ["bond", "stock"]
SERVER = {
    "base_url": os.environ.get("OPENAI_BASE_URL") or "http://127.0.0.1:8000/v1",
    "api_key": os.environ.get("OPENAI_API_KEY") or "none",  # some text is wanted where the server wants no key
}

prompt = ChatPromptTemplate([("system", "You explain finance in plain words."), ("user", "What is a {word}?")])
model = ChatOpenAI(model=OpenAI(**SERVER).models.list().data[0].id, max_tokens=48, temperature=0, **SERVER)
chain = prompt | model | StrOutputParser()
for word, answer in zip(WORDS, chain.batch([{"word": word} for word in WORDS]), strict=True):
    print(f"{word}: {answer.strip()}\n")

#!/usr/bin/env bash
# The `llm` command line: one question.
#
#   bash examples/llm.sh "What is a bond?"
#
# OPENAI_BASE_URL and OPENAI_API_KEY name another server than the one on this machine. Others on the same machine can
# read a key in the list of processes: where there are any, `llm keys set xuanyuan` once, and `--key xuanyuan`.
set -euo pipefail
server=("${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}" ${OPENAI_API_KEY:+--key "$OPENAI_API_KEY"})
model=$(llm openai endpoint "${server[@]}" --models | head -n 1)
llm openai endpoint "${server[@]}" --model "$model" --option temperature 0 --option max_tokens 64 \
  --system "You explain finance in plain words." "${1:-What is a bond?}"

#!/usr/bin/env bash
# A file of requests in OpenAI's batch format, many at a time. Interrupted, the same command goes on where it was.
#
#   bash examples/batch.sh answers.jsonl
#
# OPENAI_BASE_URL and OPENAI_API_KEY name another server than the one on this machine.
set -euo pipefail
folder=$(dirname "$0")
output=${1:-answers.jsonl}
xuanyuan=$(command -v xuanyuan || echo "$folder/../.venv/bin/xuanyuan")
"$xuanyuan" batch "$folder/batch.jsonl" -o "$output" --url "${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}"
python3 - "$output" <<'PYTHON'
import json, sys
for line in open(sys.argv[1], encoding="utf-8"):
    answer = json.loads(line)
    choice = answer["response"]["body"]["choices"][0]
    print(f'{answer["custom_id"]}: {choice.get("text") or choice["message"]["content"]}')
PYTHON

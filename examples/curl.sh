#!/usr/bin/env bash
# curl: which model, an answer as it comes, and a text that goes on.
#
#   bash examples/curl.sh
#
# OPENAI_BASE_URL and OPENAI_API_KEY name another server than the one on this machine.
set -euo pipefail
url=${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}
# The key comes out of a file that is none: in the command's words others on the machine could read it.
ask() {
  curl --silent --show-error --fail-with-body --no-buffer -H "Content-Type: application/json" \
    -H @<(echo "Authorization: Bearer ${OPENAI_API_KEY:-none}") "$@"
}

models=$(ask "$url/models") || { echo "$models" >&2; exit 1; }
model=$(echo "$models" | grep -o '"id":"[^"]*"' | head -n 1 | cut -d '"' -f 4)
echo "Model: $model"
ask "$url/chat/completions" -d '{
  "model": "'"$model"'", "max_tokens": 8, "temperature": 0, "stream": true,
  "messages": [{"role": "user", "content": "What is a bond?"}]
}'
ask "$url/completions" -d '{"model": "'"$model"'", "max_tokens": 8, "temperature": 0, "prompt": "A bond is"}'
echo

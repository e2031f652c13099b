#!/bin/sh
# curl.sh - inferd from a shell.
#
#   INFERD_URL=http://127.0.0.1:8080 CLASSIFIER=intents sh curl.sh
#
# With keys: curl -H "Authorization: Bearer $INFERD_KEY" …
set -eu
api=${INFERD_URL:-http://127.0.0.1:8080}
json='Content-Type: application/json'

echo "# the models"
curl -sS "$api/v1/models"

echo
echo "# a text, at once"
curl -sS "$api/v1/generate" -H "$json" \
    -d '{"prompt": "Once upon a time", "max_tokens": 40, "seed": 1}'

echo
echo "# as it is written (-N: curl shows each event when it comes)"
curl -sSN "$api/v1/generate" -H "$json" \
    -d '{"prompt": "Once upon a time", "max_tokens": 40, "seed": 1, "stream": true}'

if [ "${CLASSIFIER:-}" ]; then
    echo "# the class of a text, and the words that decided"
    curl -sS "$api/v1/classify" -H "$json" \
        -d "{\"model\": \"$CLASSIFIER\", \"input\": \"where is my card?\", \"top_k\": 3, \"explain\": true}"
    echo
fi

echo "# busy? up to 5 more tries, each after the Retry-After of a 429 or 503"
curl -sS --retry 5 "$api/v1/generate" -H "$json" \
    -d '{"prompt": "Once upon a time", "max_tokens": 8}'

echo
echo "# in scripts: an error is an exit status other than 0, and its text is shown"
curl -sS --fail-with-body "$api/v1/generate" -H "$json" \
    -d '{"prompt": "Once upon a time", "temperature": -1}' ||
    echo " (exit status $?)"

#!/bin/sh
# slow.sh - slow clients do not slow others: SLOW clients read their streams at
# RATE bytes a second while CLIENTS others ask as in sustained.sh. The others
# must all be answered, with a p99 below P99_MS (milliseconds). A slow one may
# be dropped when it lags too far: that protects the server, and is no fault.
# shellcheck source=tests/load/lib.sh
. "$(dirname "$0")/lib.sh"

SLOW=${SLOW:-8} RATE=${RATE:-200} P99_MS=${P99_MS:-5000}
readers=
for i in $(seq "$SLOW"); do
    curl -sN --max-time "$SECONDS_MAX" --limit-rate "$RATE" -o /dev/null \
        ${KEY:+-H "Authorization: Bearer $KEY"} \
        -H 'Content-Type: application/json' -d "{$model
        \"prompt\":\"Slow $i\",\"max_tokens\":400,\"n\":4,\"logprobs\":5,
        \"ignore_eos\":true,\"stream\":true}" \
        "$URL/v1/generate" &
    readers="$readers $!"
done
generate() {
    request generate /v1/generate "{$model\"prompt\":\"Story $1: once\",
        \"max_tokens\":$TOKENS}"
}
load generate
# What of the slow is still there has had its company; it is ours to end.
# shellcheck disable=SC2086
reading=$(for pid in $readers; do kill -0 $pid 2>/dev/null && echo 1; done | wc -l)
# shellcheck disable=SC2086
kill $readers 2>/dev/null || true
report
echo "slow clients: $SLOW, of which still reading: $reading"
expect 200
if ! awk -v limit="$P99_MS" '{ ms[NR] = $3 }
    END { exit ms[int(0.99 * NR + 0.999999)] > limit }' "$work/all"; then
    echo "FAIL: p99 is above $P99_MS ms"
    exit 1
fi

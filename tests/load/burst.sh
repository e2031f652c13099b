#!/bin/sh
# burst.sh - BURST requests at the same moment, more than the queue holds: each
# is answered (200) or refused at once (503, or 429 of a key's limit, both with
# Retry-After), none hangs or is cut. Is the queue longer than BURST, nothing
# is refused; REFUSED=1 demands that something is. See lib.sh for the rest.
# shellcheck source=tests/load/lib.sh
. "$(dirname "$0")/lib.sh"

CLIENTS=${BURST:-64} REQUESTS=${BURST:-64}
TOKENS=${TOKENS_EACH:-200}
generate() {
    request generate /v1/generate "{$model\"prompt\":\"Burst $1\",
        \"max_tokens\":$TOKENS,\"ignore_eos\":true}" \
        -D "$work/headers.$1"
}
load generate
report
refused=$(count '503|429')
told=$(cat "$work"/headers.* | grep -ci '^retry-after: [0-9]' || true)
echo "refused: $refused, of which with Retry-After: $told"
if [ "$refused" != "$told" ]; then
    echo "FAIL: a refusal does not say when to come back"
    exit 1
fi
if [ "${REFUSED:-0}" = 1 ] && [ "$refused" = 0 ]; then
    echo "FAIL: nothing was refused"
    exit 1
fi
expect '200|503|429'

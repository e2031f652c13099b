#!/bin/sh
# smoke.sh - is this deployment alive? Each probe, the models, one generation,
# one stream, one wrong request. URL, KEY and MODEL name it; see lib.sh.
# shellcheck source=tests/load/lib.sh
. "$(dirname "$0")/lib.sh"

CLIENTS=1 REQUESTS=7
step() {
    case $1 in
    1) request healthz /healthz ;;
    2) request readyz /readyz ;;
    3) request metrics /metrics ;;
    4) request models /v1/models ;;
    5) request generate /v1/generate \
        "{$model\"prompt\":\"Once upon a time\",\"max_tokens\":$TOKENS}" ;;
    6) request stream /v1/completions "{$model\"prompt\":\"Once upon a time\",
        \"max_tokens\":$TOKENS,\"stream\":true,
        \"stream_options\":{\"include_usage\":true}}" ;;
    7) request wrong /v1/generate "{$model\"prompt\":7}" ;;
    esac
}
load step
report
if [ "$(count 400 wrong)" != 1 ]; then
    echo "FAIL: a wrong request is not a 400"
    exit 1
fi
sed -i '/^wrong /d' "$work/all"
expect 200

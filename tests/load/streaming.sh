#!/bin/sh
# streaming.sh - CLIENTS streams at once; "first" is the time to the first
# byte, and tokens are those that usage counts at the end of each stream. All
# must be whole. URL, KEY and MODEL name the deployment; see lib.sh.
# shellcheck source=tests/load/lib.sh
. "$(dirname "$0")/lib.sh"

stream() {
    request stream /v1/completions "{$model\"prompt\":\"Story $1: once\",
        \"max_tokens\":$TOKENS,\"seed\":$1,\"stream\":true,
        \"stream_options\":{\"include_usage\":true}}"
}
load stream
report
expect 200
if ! awk '$5 > 0 { n++ } END { exit n != NR }' "$work/all"; then
    echo "FAIL: a stream ended without its usage"
    exit 1
fi

#!/bin/sh
# sustained.sh - CLIENTS requests in flight until REQUESTS are answered; all
# must be. Prompts differ, so that the prefix cache does not answer for the
# model. URL, KEY and MODEL name the deployment; see lib.sh.
# shellcheck source=tests/load/lib.sh
. "$(dirname "$0")/lib.sh"

generate() {
    request generate /v1/generate "{$model\"prompt\":\"Story $1: once\",
        \"max_tokens\":$TOKENS,\"seed\":$1}"
}
load generate
report
expect 200

#!/bin/sh
# mixed.sh - all kinds of requests at once: text, chat, streams, tokens, probes,
# metrics, and, where CLASSIFIER or EMBEDDER name a model for it, classes and
# embeddings. All must be answered. Chat needs a model with a chat template:
# CHAT=0 leaves it out. See lib.sh for the rest.
# shellcheck source=tests/load/lib.sh
. "$(dirname "$0")/lib.sh"

generate() {
    request generate /v1/generate "{$model\"prompt\":\"Story $1: once\",
        \"max_tokens\":$TOKENS}"
}
one() {
    case $(($1 % 8)) in
    0) request healthz /healthz ;;
    1) request metrics /metrics ;;
    2) request stream /v1/completions "{$model\"prompt\":\"Story $1: once\",
        \"max_tokens\":$TOKENS,\"stream\":true,
        \"stream_options\":{\"include_usage\":true}}" ;;
    3) request tokenize /v1/tokenize "{$model\"text\":\"Story $1: once\"}" ;;
    4) if [ "${CHAT:-1}" = 1 ]; then
        request chat /v1/chat/completions "{$model\"max_tokens\":$TOKENS,
            \"messages\":[{\"role\":\"user\",\"content\":\"Story $1\"}]}"
    else
        generate "$1"
    fi ;;
    5) if [ -n "${CLASSIFIER:-}" ]; then
        request classify /v1/classify \
            "{$(field "$CLASSIFIER")\"input\":\"Where is card number $1?\"}"
    else
        generate "$1"
    fi ;;
    6) if [ -n "${EMBEDDER:-}" ]; then
        request embed /v1/embeddings \
            "{$(field "$EMBEDDER")\"input\":\"Text number $1\"}"
    else
        generate "$1"
    fi ;;
    *) generate "$1" ;;
    esac
}
load one
report
expect 200

#!/bin/sh
# run.sh - serve the default model and say how to talk to it.
#
#   MODEL=file.gguf LISTEN=host:port scripts/run.sh [inferd's options]
set -eu
cd "$(dirname "$0")/.."

listen=${LISTEN:-127.0.0.1:8080}
if ! model=$(scripts/model.sh); then
    cat >&2 <<EOF
run: no model found. Put a GGUF file into models/, or name one:
    make run MODEL=/path/to/model.gguf
EOF
    exit 1
fi

cat <<EOF
Model  $model
URL    http://$listen  (contract: http://$listen/openapi.yaml)
Try    curl -N http://$listen/v1/generate -H 'Content-Type: application/json' \\
         -d '{"prompt":"Once upon a time","max_tokens":64,"stream":true}'
Stop   Ctrl-C
EOF
exec bin/inferd --model "$model" --listen "$listen" "$@"

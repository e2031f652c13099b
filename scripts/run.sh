#!/bin/sh
# run.sh - serve the default model, and beside it the others that ship, and say
# how to talk to them. With MODEL only that one is served.
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

echo "Model  $model"
set -- --model "$model" --listen "$listen" "$@"
for other in models/*.gguf; do
    if [ -z "${MODEL:-}" ] && [ -f "$other" ] && [ "$other" != "$model" ]; then
        echo "       $other"
        set -- "$@" --model "$other"
    fi
done

cat <<EOF
URL    http://$listen  (open it in a browser; contract: http://$listen/openapi.yaml)
Try    curl -N http://$listen/v1/generate -H 'Content-Type: application/json' \\
         -d '{"prompt":"It was a fine day, and","max_tokens":64,"stream":true}'
EOF
[ ! -f models/intents.gguf ] || [ -n "${MODEL:-}" ] || cat <<EOF
       curl http://$listen/v1/classify -H 'Content-Type: application/json' \\
         -d '{"model":"intents","input":"Where is my new card?","top_k":3}'
EOF
[ ! -f models/sentences.gguf ] || [ -n "${MODEL:-}" ] || cat <<EOF
       curl http://$listen/v1/embeddings -H 'Content-Type: application/json' \\
         -d '{"model":"sentences","input":["My card is lost.","I cannot find my card."]}'
EOF
echo "Stop   Ctrl-C"
exec bin/inferd "$@"

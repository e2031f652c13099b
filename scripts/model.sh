#!/bin/sh
# model.sh - print the path of the model that `make run`, the HTTP tests and
# the benchmarks use: $MODEL, else the first of models/ that writes text, else
# the tiny story teller among the reference files beside the repository.
# Nothing: none.
cd "$(dirname "$0")/.." || exit 1

encodes() { # the architecture is among the first keys of a GGUF file
    head -c 1024 "$1" | grep -aq inferd-encoder
}

for path in "${MODEL:-}" models/*.gguf \
    ../shared/oracle/stories260K/model-Q8_0.gguf; do
    if [ -f "$path" ] && { [ "$path" = "${MODEL:-}" ] || ! encodes "$path"; }
    then
        echo "$path"
        exit 0
    fi
done
exit 1

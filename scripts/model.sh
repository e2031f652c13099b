#!/bin/sh
# model.sh - print the path of the model that `make run`, the HTTP tests and
# the benchmarks use: $MODEL, else the first of models/, else the tiny story
# teller among the reference files beside the repository. Nothing: none.
cd "$(dirname "$0")/.." || exit 1
for path in "${MODEL:-}" models/*.gguf \
    ../shared/oracle/stories260K/model-Q8_0.gguf; do
    if [ -n "$path" ] && [ -f "$path" ]; then
        echo "$path"
        exit 0
    fi
done
exit 1

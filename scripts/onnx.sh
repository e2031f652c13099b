#!/bin/sh
# onnx.sh - put onnxruntime for node into a folder, once.
#
#   scripts/onnx.sh FOLDER
#
# Called by `make test-onnx`. Its install scripts only fetch what a CPU does
# not need, so none are run.
set -eu

version=1.30.0
folder=$1
module=$folder/node_modules/onnxruntime-node

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    scripts/deps.sh onnx
fi
grep -qs "\"version\": \"$version\"" "$module/package.json" && exit 0
mkdir -p "$folder"
npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund \
    --loglevel=error "onnxruntime-node@$version" >/dev/null

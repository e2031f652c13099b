#!/bin/sh
# run.sh - the manifests against the schemas of kubernetes-models, from npm,
# fetched once into build/k8s (pinned, no install scripts).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)

if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    "$top/scripts/deps.sh" node
fi
mkdir -p "$top/build/k8s"
cd "$top/build/k8s"
cp "$here/validate.js" .
[ -d node_modules/kubernetes-models ] || npm install --ignore-scripts \
    --no-audit --no-fund --no-package-lock --loglevel=error \
    kubernetes-models@4.5.1 \
    @kubernetes-models/keda@0.4.2 js-yaml@5.5.0
TOP=$top exec node --test validate.js

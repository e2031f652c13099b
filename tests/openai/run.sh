#!/bin/sh
# run.sh - the official openai client against the program, see client.test.js.
#
# The client is fetched once into build/openai (npm, its pinned version, no
# install scripts). Debian 12's node (18) is too old for it and gets the last
# client that was made for such. OPENAI=VERSION takes another.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
work=$top/build/openai

if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    "$top/scripts/deps.sh" node
fi
mkdir -p "$work"
cp "$here/package.json" "$here"/*.js "$work"
cd "$work"
wanted=$(sed -n 's/.*"openai": "\(.*\)".*/\1/p' package.json)
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || wanted=4.104.0
wanted=${OPENAI:-$wanted}
sed -i "s/\"openai\": \".*\"/\"openai\": \"$wanted\"/" package.json
grep -qs "\"version\": \"$wanted\"" node_modules/openai/package.json ||
    npm install --ignore-scripts --no-audit --no-fund --no-package-lock \
        --loglevel=error
echo "openai $wanted, node $(node --version)"
TOP=$top exec node --test client.test.js

#!/bin/sh
# run.sh - the pages in Debian's Chromium: see *.test.js.
#
# playwright-core (npm, no install scripts, no browser of its own; pinned: newer
# ones want more than Debian 12's Node.js 18) is fetched once into build/web. Screenshots are left there.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
work=$top/build/web

"$top/scripts/deps.sh" browser
if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    "$top/scripts/deps.sh" node
fi
mkdir -p "$work"
cp "$here/package.json" "$here"/*.js "$top/tests/openai/server.js" "$work"
cd "$work"
wanted=$(sed -n 's/.*"playwright-core": "\(.*\)".*/\1/p' package.json)
grep -qs "\"version\": \"$wanted\"" node_modules/playwright-core/package.json ||
    npm install --ignore-scripts --no-audit --no-fund --no-package-lock \
        --loglevel=error
echo "playwright-core $wanted, node $(node --version), $(chromium --version 2>/dev/null)"
rc=0
for t in "$here"/*.test.js; do # one browser at a time
    TOP=$top node --test "$(basename "$t")" || rc=1
done
exit $rc

#!/bin/sh
# fuzz.sh - run each libFuzzer program for a while over its corpus.
#
#   SECONDS_EACH=20 scripts/fuzz.sh program...
#
# New inputs go to build/, never into the corpus in tests/fuzz/corpus/NAME:
# what is worth keeping is copied there by hand. A crash leaves its input
# beside the new ones and fails the run.
set -u

seconds=${SECONDS_EACH:-20}
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

for program; do
    name=$(basename "$program")
    found=$(dirname "$program")/found-$name
    seeds=tests/fuzz/corpus/${name#fuzz_}
    mkdir -p "$found"
    [ -d "$seeds" ] || seeds=
    # shellcheck disable=SC2086  # no seeds: no argument
    if "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -verbosity=0 -artifact_prefix="$found/crash-" \
        "$found" $seeds >"$log" 2>&1; then
        passed=$((passed + 1))
        runs=$(sed -n 's/.*number_of_executed_units: *//p' "$log")
        echo "  $name: ${runs:-?} inputs in $seconds s"
    else
        failed=$((failed + 1))
        tail -n 40 "$log"
        echo "  $name: failed, see $found"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

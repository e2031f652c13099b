#!/bin/sh
# test-c.sh - run cmocka programs; a line each, everything only on failure.
#
#   scripts/test-c.sh program...
#
# Programs that compute (golden) run once for each instruction set named in
# CPUS, passed to them as INFER_TEST_CPU. Ends with "N passed, N failed".
set -u

cpus=${CPUS:-scalar avx2 avx2,avx512vnni all}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0 broken=0

# The sum of the counts in lines like "[  PASSED  ] 12 test(s)."
count() {
    sed -n "s/^\[ *$1 *\].* \([0-9][0-9]*\) test.*/\1/p" "$log" |
        awk '{ n += $1 } END { print n + 0 }'
}

run() { # program mask
    start=$(date +%s%N)
    INFER_TEST_CPU=$2 "$1" >"$log" 2>&1
    status=$?
    ms=$((($(date +%s%N) - start) / 1000000))
    p=$(count PASSED) f=$(count FAILED) s=$(count SKIPPED)
    if [ "$status" != 0 ]; then
        cat "$log"
        # It crashed, or failed outside any test.
        [ "$f" = 0 ] && f=1
        broken=1
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    note=
    [ "$s" != 0 ] && note=", $s skipped"
    [ "$2" != all ] && note="$note ($2)"
    [ "$status" != 0 ] && note="$note, exit $status"
    printf '  %-36s %4d passed, %d failed%s  %d ms\n' \
        "${1#*/*/tests/}" "$p" "$f" "$note" "$ms"
    grep -h '^skipped:' "$log" | sort -u | sed 's/^/      /'
}

for program; do
    case $program in
    */golden/*)
        for cpu in $cpus; do
            run "$program" "$cpu"
        done
        ;;
    *) run "$program" all ;;
    esac
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$broken" = 0 ] && [ "$failed" = 0 ]

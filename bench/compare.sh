#!/bin/bash
# compare.sh - interleaved comparison of infer-bench with other programs that
# take llama-bench's options and print its JSON. Prints a markdown table.
#
# The machines this runs on are shared and drift by tens of per cent within
# minutes, so every round runs each program once on each file, back to back and
# in an order that turns round every time; ratios are taken within a round and
# their median and extremes are shown. A peer given several times under one name
# (with other flags) is judged by its best setting for each figure.
#
#   bench/compare.sh [-t THREADS] [-r ROUNDS] [-p PP] [-n TG] \
#       --peer NAME='COMMAND FLAGS' [--peer ...] FILE.gguf ...
#
# PEER_BENCH=/path/to/llama-bench is short for --peer peer=/path/to/llama-bench;
# BENCH names our program (bin/infer-bench); KEEP=FILE keeps the raw samples.
set -eu -o pipefail

# These halve or double some libraries; the kernels under test must not differ.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

threads=2 rounds=5 prompt=512 gen=128
names=(infer-bench) commands=("${BENCH:-$(dirname "$0")/../bin/infer-bench}")
files=()

fail() {
    echo "compare.sh: $*" >&2
    exit 2
}

add_peer() {
    [[ $1 == ?*=?* ]] || fail "--peer: '$1' is not NAME=COMMAND"
    names+=("${1%%=*}")
    commands+=("${1#*=}")
}

[ -z "${PEER_BENCH:-}" ] || add_peer "peer=$PEER_BENCH"
while [ $# -gt 0 ]; do
    case $1 in
    -t | -r | -p | -n | --peer)
        [ $# -ge 2 ] || fail "$1 needs a value"
        case $1 in
        -t) threads=$2 ;;
        -r) rounds=$2 ;;
        -p) prompt=$2 ;;
        -n) gen=$2 ;;
        --peer) add_peer "$2" ;;
        esac
        shift 2
        ;;
    -*) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" && exit 2 ;;
    *) files+=("$1") && shift ;;
    esac
done
[ ${#files[@]} -gt 0 ] || fail "no model files given"
[ ${#names[@]} -gt 1 ] || fail "no --peer and no PEER_BENCH given"
command -v jq >/dev/null || fail "jq is missing (apt-get install jq)"

samples=${KEEP:-$(mktemp)}
[ -n "${KEEP:-}" ] || trap 'rm -f "$samples"' EXIT
: >"$samples"

# One line per figure: round, program, command's index, file, test, tokens/s
# (the median of the program's own repetitions, and the best of them).
run_one() {
    local round=$1 i=$2 file=$3
    # shellcheck disable=SC2086 # flags are words on purpose
    timeout 300 ${commands[i]} -m "$file" -t "$threads" -p "$prompt" \
        -n "$gen" -r 3 -o json 2>/dev/null | jq -r '.[] | [
            (if .n_gen > 0 then "tg\(.n_gen)" else "pp\(.n_prompt)" end),
            (.samples_ts | sort | .[(length - 1) / 2 | floor], .[-1])] | @tsv' |
        while read -r label speed best; do
            printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$round" "${names[i]}" \
                "$i" "$(basename "$file" .gguf)" "$label" "$speed" "$best"
        done >>"$samples" || echo "compare.sh: failed: ${commands[i]}" >&2
}

# What there is when the run is ended early is reported too.
report() {
    echo "$threads threads, interleaved rounds, medians of tokens/s;" \
        "in brackets the best run;" \
        "ratio: ours over theirs within a round, median" \
        "(smallest .. largest), and of the best runs"
    for ((i = 1; i < ${#names[@]}; i++)); do
        echo "- ${names[i]} setting $i:" \
            "\`$(sed 's|^[^ ]*/||' <<<"${commands[i]}")\`"
    done
    echo
    awk -F '\t' '
function median(list,    v, n, i, j, x) {
    n = split(list, v, " ")
    for (i = 2; i <= n; i++) {
        x = v[i] + 0
        for (j = i - 1; j >= 1 && v[j] + 0 > x; j--)
            v[j + 1] = v[j]
        v[j + 1] = x
    }
    least = v[1]
    most = v[n]
    return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}
{
    key = $4 SUBSEP $5
    if (!(key in seen))
        keys[++n_keys] = key
    seen[key] = 1
    if ($3 > 0 && !($2 in peer_seen)) {
        peers[++n_peers] = $2
        peer_seen[$2] = 1
    }
    name[$3] = $2
    last = $3 > last ? $3 : last
    speed[key, $3, $1] = $6
    all[key, $3] = all[key, $3] " " $6
    top[key, $3] = $7 > top[key, $3] ? $7 : top[key, $3]
    n_rounds = $1 > n_rounds ? $1 : n_rounds
}
END {
    head = "| model | test | infer-bench |"
    rule = "|---|---|---:|"
    for (p = 1; p <= n_peers; p++) {
        head = head " " peers[p] " (setting) | ratio | of best |"
        rule = rule "---:|---:|---:|"
    }
    print head
    print rule
    for (k = 1; k <= n_keys; k++) {
        key = keys[k]
        split(key, part, SUBSEP)
        line = sprintf("| %s | %s | %.0f [%.0f] |", part[1], part[2],
                       median(all[key, 0]), top[key, 0])
        for (p = 1; p <= n_peers; p++) {
            best = fastest = 0
            for (i = 1; i <= last; i++)
                if (name[i] == peers[p]) {
                    if (top[key, i] > fastest)
                        fastest = top[key, i]
                    if (median(all[key, i]) > best) {
                        best = median(all[key, i])
                        which = i
                    }
                }
            ratios = ""
            for (r = 1; r <= n_rounds; r++)
                if (speed[key, which, r] > 0 && speed[key, 0, r] > 0)
                    ratios = ratios " " speed[key, 0, r] / speed[key, which, r]
            ratio = median(ratios)
            line = line sprintf(" %.0f [%.0f] (%d) | %.2f (%.2f .. %.2f) |" \
                                " %.2f |",
                                best, fastest, which, ratio, least, most,
                                fastest > 0 ? top[key, 0] / fastest : 0)
        }
        print line
    }
}' "$samples"
}

trap 'report; exit 1' INT TERM
for ((round = 1; round <= rounds; round++)); do
    for file in "${files[@]}"; do
        for ((j = 0; j < ${#names[@]}; j++)); do
            i=$j
            [ $((round % 2)) -eq 1 ] || i=$((${#names[@]} - 1 - j))
            run_one "$round" "$i" "$file"
        done
    done
    echo "round $round of $rounds, load $(cut -d' ' -f1 /proc/loadavg)" >&2
done

report

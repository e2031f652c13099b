# shellcheck shell=sh
# lib.sh - what the curl load tests share; not run by itself.
#
# A request is one curl and leaves one line in a file of its client:
#   NAME STATUS MILLISECONDS MILLISECONDS_TO_FIRST_BYTE TOKENS
# and report() makes the table of them. Everything ends: by REQUESTS, by
# SECONDS_MAX, and each curl by TIMEOUT. A curl is a process, so some hundreds
# of requests a second is what this can ask for; bin/infer-load asks for more.
set -eu

URL=${URL:-http://127.0.0.1:8080} # the deployment
KEY=${KEY:-}                      # its API key, if it wants one
MODEL=${MODEL:-}                  # "" is its default model
CLIENTS=${CLIENTS:-4}             # requests in flight
REQUESTS=${REQUESTS:-100}         # in all
SECONDS_MAX=${SECONDS_MAX:-60}    # no request starts after this
TIMEOUT=${TIMEOUT:-60}            # seconds that one may take
TOKENS=${TOKENS:-32}              # max_tokens of each

work=$(mktemp -d)
pids=
# shellcheck disable=SC2086  # a list of ids
finish() {
    [ -z "$pids" ] || kill $pids 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM
start=$(date +%s)

# A JSON body begins with its model's field and a comma; nothing for "".
field() { # MODEL
    [ -z "$1" ] || printf '"model":"%s",' "$1"
}
# shellcheck disable=SC2034  # the scripts use it
model=$(field "$MODEL")

# One request, and its line on stdout. A reply that curl did not get whole
# (refused connection, cut stream, timeout) has the status 000.
request() { # NAME PATH [BODY [CURL_OPTION...]]
    name=$1 path=$2 body=${3:-}
    shift 2
    [ $# = 0 ] || shift
    [ -z "$body" ] || set -- "$@" -H 'Content-Type: application/json' -d "$body"
    [ -z "$KEY" ] || set -- "$@" -H "Authorization: Bearer $KEY"
    reply=$(mktemp "$work/reply.XXXXXX")
    times=$(curl -sN --max-time "$TIMEOUT" -o "$reply" "$@" \
        -w '%{http_code} %{time_total} %{time_starttransfer}' "$URL$path") ||
        times="000 ${times#* }"
    # usage counts them; in a stream the last piece has it, if asked for
    tokens=$(sed -n 's/.*"completion_tokens":\([0-9]*\).*/\1/p' "$reply" |
        tail -n 1)
    rm -f "$reply"
    echo "$name $times ${tokens:-0}" |
        awk '{ printf "%s %s %.1f %.1f %d\n", $1, $2, $3 * 1e3, $4 * 1e3, $5 }'
}

# CLIENTS loops at once share REQUESTS calls of a function, which gets the
# number of its call.
load() { # FUNCTION
    pids=
    begun=$(date +%s.%N)
    for client in $(seq "$CLIENTS"); do
        (
            trap - EXIT
            i=$client
            while [ "$i" -le "$REQUESTS" ] &&
                [ $(($(date +%s) - start)) -lt "$SECONDS_MAX" ]; do
                "$1" "$i"
                i=$((i + CLIENTS))
            done >"$work/lines.$client"
        ) &
        pids="$pids $!"
    done
    for pid in $pids; do
        wait "$pid" || true
    done
    pids=
    took=$(date +%s.%N)
}

# Of all lines: a row per name with its counts and percentiles, then the rate.
report() {
    cat "$work"/lines.* | sort -k1,1 -k3,3n >"$work/all"
    awk -v begun="$begun" -v ended="$took" '
        function flush(   s, list) {
            if (!n) return
            for (s in status) list = list " " s ":" status[s]
            printf "%-12s %6d %8.1f %8.1f %8.1f %8.1f %8.1f %s\n", name, n,
                at(0.5), at(0.9), at(0.99), ms[n], first / n, list
            n = first = 0
            delete status
        }
        function at(q,   i) { i = int(q * n + 0.999999); return ms[i] }
        BEGIN {
            printf "%-12s %6s %8s %8s %8s %8s %8s  %s\n", "what", "n",
                "p50 ms", "p90", "p99", "max", "first", "status:count"
        }
        $1 != name { flush(); name = $1 }
        {
            ms[++n] = $3; first += $4; status[$2]++
            total++; tokens += $5
        }
        END {
            flush()
            s = ended - begun
            printf "%d requests in %.2f s: %.1f requests/s, %.1f tokens/s\n",
                total, s, total / s, tokens / s
        }' "$work/all"
}

# How many replies had one of these statuses (of one name, if named).
count() { # STATUS_REGEX [NAME]
    awk -v re="^($1)\$" -v name="${2:-}" '
        $2 ~ re && (name == "" || $1 == name) { n++ }
        END { print n + 0 }' "$work/all"
}

# The verdict: exit 1, and why, unless all replies had one of these statuses.
expect() { # STATUS_REGEX
    all=$(wc -l <"$work/all")
    good=$(count "$1")
    if [ "$all" = 0 ] || [ "$good" != "$all" ]; then
        echo "FAIL: $good of $all replies are $1"
        exit 1
    fi
    echo "ok: all $all replies are $1"
}

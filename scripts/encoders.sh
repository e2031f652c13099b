#!/bin/sh
# encoders.sh - make the classifier and the embedder of models/ again, from the
# data beside the repository (clean sets only: CLINC150, BANKING77 and books in
# the public domain).
#
#   [THREADS=N] scripts/encoders.sh [intents|sentences ...]
#
# Results replace models/NAME.gguf and NAME.md.
set -eu
cd "$(dirname "$0")/.."
data=../shared/data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

[ -d "$data/clinc150" ] || {
    echo "encoders: no $data: the data has to lie beside the repository" >&2
    exit 1
}

# The table of a card's licence and data, behind what the trainer wrote.
card() { # name, what it is for
    {
        sed "s#$work/#runs/#g" "$work/$1/README.md"
        printf '\n## Use and limits\n\n%s\n\n' "$2"
        cat <<END
## Data and licence

CLINC150 (Larson et al. 2019, CC BY 3.0) and BANKING77 (Casanueva et al. 2020,
CC BY 4.0); the weights are under the licence of this repository, with
attribution to both. Made by \`scripts/encoders.sh $1\`; the file is Q8_0, the
scores above are those of the f32 weights.
END
    } >"models/$1.md"
}

finish() { # name
    mkdir -p models
    bin/infer-train quantize "$work/$1/model.gguf" "models/$1.gguf" --type q8_0
}

intents() {
    scripts/encoders.py intents "$data" "$work"
    bin/infer-train classify --out "$work/intents" "$work/train.jsonl" \
        --val "$work/val.jsonl" --test "$work/test.jsonl" --oos-label oos \
        --width 128 --ngram-buckets 32768 --vocab 2000 --epochs 12 \
        ${THREADS:+--threads "$THREADS"}
    finish intents
    card intents "English requests to an assistant or a bank: 150 intents of \
CLINC150 and 77 of BANKING77 (one name is in both). What fits none is answered \
\`oos\`: about half of such texts, at the price of half a point of accuracy. It \
knows n-grams, no paraphrase it never saw; not for decisions about people."
}

sentences() {
    scripts/encoders.py sentences "$data" "$work"
    bin/infer-train embed --out "$work/sentences" "$work/groups.jsonl" \
        --width 128 --ngram-buckets 32768 --vocab 2000 --epochs 6 \
        --views 2 --ngram-lr 0.1 --dimensions 128,64 \
        ${THREADS:+--threads "$THREADS"}
    finish sentences
    card sentences "Vectors of English requests and sentences: requests of one \
intent, and the parts of one paragraph, lie close together. It was trained on \
little text and clean data only: good for sorting requests, weak for general \
similarity."
}

[ $# -gt 0 ] || set -- intents
for name in "$@"; do
    case $name in
    intents) intents ;;
    sentences) sentences ;;
    *)
        echo "encoders: unknown model '$name' (intents, sentences)" >&2
        exit 2
        ;;
    esac
done

#!/bin/sh
# encoders.sh - make the classifier and the embedder of models/ again, from the
# data beside the repository (clean sets only: CLINC150, BANKING77, MR and books
# in the public domain; STS-B and Cranfield only judge the embedder).
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
card() { # name, what it is for, data beside the intents, type of the file
    {
        sed "s#$work/#runs/#g" "$work/$1/README.md"
        printf '\n## Use and limits\n\n%s\n\n' "$2"
        cat <<END
## Data and licence

CLINC150 (Larson et al. 2019, CC BY 3.0) and BANKING77 (Casanueva et al. 2020,
CC BY 4.0)$3; the weights are under the licence of this repository, with
attribution to all. Made by \`scripts/encoders.sh $1\`; the file is $4, the
scores above are those of the f32 weights.
END
    } >"models/$1.md"
}

finish() { # name, type
    mkdir -p models
    bin/infer-train quantize "$work/$1/model.gguf" "models/$1.gguf" --type "$2"
}

intents() {
    scripts/encoders.py intents "$data" "$work"
    bin/infer-train classify --out "$work/intents" "$work/train.jsonl" \
        --val "$work/val.jsonl" --test "$work/test.jsonl" --oos-label oos \
        --width 128 --ngram-buckets 32768 --vocab 2000 --epochs 12 \
        ${THREADS:+--threads "$THREADS"}
    finish intents q8_0
    card intents "English requests to an assistant or a bank: 150 intents of \
CLINC150 and 77 of BANKING77 (one name is in both). What fits none is answered \
\`oos\`: about half of such texts, at the price of half a point of accuracy. It \
knows n-grams, no paraphrase it never saw; not for decisions about people." \
        "" Q8_0
}

sentences() {
    scripts/encoders.py sentences "$data" "$work"
    bench/cranfield.py "$data/cranfield" "$work/cranfield"
    bin/infer-train embed --out "$work/sentences" "$work/groups.jsonl" \
        --test "$data/stsb_en/test.jsonl" --retrieval "$work/cranfield" \
        --width 256 --dimensions 256,128,64 --ngram-buckets 24576 \
        --ngram-words 1 --ngram-char-min 5 --vocab 1000 --ngram-lr 1 \
        --batch 128 --drop-vector 0.2 --epochs 3 \
        ${THREADS:+--threads "$THREADS"}
    finish sentences q4_0
    card sentences "Vectors of English sentences for search and for sorting \
requests. Words and runs of five characters are compared by their rarity, as \
tf-idf does; beyond that it learned only which requests mean one intent and \
which sentences share a paragraph. It knows few synonyms: on STS-B it \
is a little below plain tf-idf (68.2), on Cranfield behind BM25 (0.4845), and \
far behind large pre-trained encoders on both." ", sentences of
movie reviews (MR: Pang and Lee 2005, CC BY 4.0), War and Peace and Botchan
(in English; public domain); STS-B and Cranfield judge it and taught it nothing" Q4_0
}

[ $# -gt 0 ] || set -- intents sentences
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

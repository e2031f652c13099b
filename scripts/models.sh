#!/bin/sh
# models.sh DATA - train the models that ship in models/, from the texts in
# DATA. Each recipe is all there is to say about a model: `make models` repeats
# it, the folder of the run in build/models/ has its metrics and samples.
set -eu
data=${1:?usage: models.sh DATA}
build=build/models
train=bin/infer-train
mkdir -p "$build" models

# The run's card, and what standard input adds to it.
card() { # name
    {
        sed "s#$build/$1/model.gguf#models/$1.gguf#" "$build/$1/README.md"
        cat
    } >"models/$1.md"
}

# The text model: English prose and plays, 320 wide, 6 layers, 2,048 pieces.
text() {
    set -- "$data/books/war-and-peace.txt" "$data/books/botchan.txt" \
        "$data/tinyshakespeare/input.txt"
    rm -rf "$build/text"
    $train tokenizer --out "$build/text-vocab" --kind bpe --vocab 2048 "$@"
    $train lm --out "$build/text" --tokenizer "$build/text-vocab.gguf" \
        --layers 6 --heads 5 --width 320 --ffn 864 --context 512 \
        --start-context 128 --batch 8 --steps 3000 --dropout 0.2 --ema 0.998 \
        --val-share 0.02 --eval-every 250 --eval-tokens 0 --log-every 50 \
        --save-every 250 --sample 100 --sample-every 500 --prompt 'The ' \
        ${THREADS:+--threads $THREADS} "$@"
    $train quantize "$build/text/model.gguf" models/text.gguf --type q8_0
    card text <<EOF

## Use and limits

Continues English prose and plays of the nineteenth century and before: for demonstrations and tests, not for facts. The
file is Q8_0; the scores above are those of the f32 weights.

## Data and licence

War and Peace (Tolstoy, translated by Louise and Aylmer Maude), Botchan (Natsume, translated by Yasotaro Morri) and the
plays of tinyshakespeare are in the public domain; the weights are under the licence of this repository. Made by
\`make models\` (\`scripts/models.sh\`).
EOF
}

for model in ${MODELS:-text}; do
    $model
done

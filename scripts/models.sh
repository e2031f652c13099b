#!/bin/sh
# models.sh DATA - train the models that ship in models/, from the texts in
# DATA. Each recipe is all there is to say about a model: `make models` repeats
# it, the folder of the run in build/models/ has its metrics and samples.
set -eu
data=${1:?usage: models.sh DATA}
build=build/models
train=bin/infer-train
mkdir -p "$build" models

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
    cp "$build/text/README.md" models/text.md
}

for model in ${MODELS:-text}; do
    $model
done

#!/bin/bash
# The picture of the notebook "Visualizing the loss landscape" in Julia: a VGG on Fashion-MNIST, both of its schemes, one batch.
#
#     bash examples/julia.sh                     29 million parameters: a minute on a CUDA device (DEVICE=--cuda), hours without
#     SIDE=5 LIMIT=32 EPOCHS=1 bash examples/julia.sh
#
# Where the whole of Fashion-MNIST lies is said with DATA="--dataset fashion_mnist --datapath FOLDER".
set -euo pipefail
out=${OUT:-.}
data=(${DATA:---dataset fashion_mnist_mini})
if [ ! -e "$out/vgg13.safetensors" ]; then
  python train.py --model vgg13 "${data[@]}" --epochs "${EPOCHS:-3}" --lr 0.02 --warmup "${WARMUP:-300}" ${DEVICE:-} \
    --out "$out/vgg13.safetensors"
fi
for scheme in linear2x barycentric; do
  python plot_surface.py --model vgg13 --model_file "$out/vgg13.safetensors" "${data[@]}" --limit "${LIMIT:-128}" \
    --scheme $scheme --x=-2.4:2.4:"${SIDE:-49}" --y=-2.4:2.4:"${SIDE:-49}" ${DEVICE:-} --surf_file "$out/julia_$scheme.h5"
  python plot_2D.py --surf_file "$out/julia_$scheme.h5" --log --infinite largest --elev 40 --azim 130
done

#!/bin/bash
# The notebook "Visualizing the loss landscape" in Julia: a VGG on Fashion-MNIST, both of its schemes on one batch, and the page
# on which optimizers descend them.
#
#     bash examples/julia/run.sh        OUT=folder: where to; SMALL=1: a small form of it, in a folder small
#     DEVICE=--cuda SIDE=49 LIMIT=128 bash examples/julia/run.sh
#     DATA="--dataset fashion_mnist --datapath FOLDER" bash examples/julia/run.sh          where the whole data set lies
#
# The network has 29 million parameters: on two cores it is trained for one epoch, and the surfaces have few cells.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd) out=${OUT:-.}${SMALL:+/small}
mkdir -p "$out"
data=(${DATA:---dataset fashion_mnist_mini})
epochs=${EPOCHS:-${SMALL:+1}} side=${SIDE:-${SMALL:+3}} limit=${LIMIT:-${SMALL:+4}}
if [ ! -e "$out/vgg13.safetensors" ]; then
  python "$root/train.py" --model vgg13 "${data[@]}" ${SMALL:+--limit 32} --epochs "${epochs:-3}" --lr 0.02 --warmup "${WARMUP:-30}" \
    ${DEVICE:-} --out "$out/vgg13.safetensors"
fi
for scheme in linear2x barycentric; do
  python "$root/plot_surface.py" --model vgg13 --model_file "$out/vgg13.safetensors" "${data[@]}" --limit "${limit:-16}" \
    --scheme $scheme --x=-2.4:2.4:"${side:-13}" --y=-2.4:2.4:"${side:-13}" ${DEVICE:-} --surf_file "$out/julia_$scheme.h5"
  python "$root/plot_2D.py" --surf_file "$out/julia_$scheme.h5" --log --infinite largest --elev 40 --azim 130
done
python "$root/view_surface.py" "$out"/julia_{linear2x,barycentric}.h5 --labels "linear twice" "barycentric" -o "$out/julia.html"

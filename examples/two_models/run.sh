#!/bin/bash
# Two models in one 3-D picture, each along the two largest eigenvectors of its own Hessian.
#
#     bash examples/two_models/run.sh        OUT=folder: where to; SMALL=1: a small form of it, in a folder small
#
# The networks are the bundled ones: ResNet-20 trained with batches of 128 and of 2,048.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd) out=${OUT:-.}${SMALL:+/small}
mkdir -p "$out"
cells=${SMALL:+3} limit=${SMALL:+10} part=(${SMALL:+--only linear})
for batch in small large; do
  python "$root/plot_surface.py" --model resnet20 --model_file "$root/trained_nets/resnet20_${batch}_batch.safetensors" \
    --dataset fashion_mnist_mini --limit "${limit:-256}" "${part[@]}" --xdirection eigenvector:1 --ydirection eigenvector:2 \
    --x=-0.15:0.15:"${cells:-21}" --y=-0.15:0.15:"${cells:-21}" --dir_file "$out/${batch}_eigenvectors.h5" --surf_file "$out/$batch.h5"
done
python "$root/plot_2D.py" --surf_file "$out/small.h5" "$out/large.h5" --labels "batches of 128" "batches of 2,048" \
  --layout overlay --out "$out/two_models"
PYTHONPATH="$root" python -m lossatlas flatness --surf_file "$out/small.h5" "$out/large.h5" --labels "batches of 128" "batches of 2,048"
python "$root/view_surface.py" "$out/small.h5" "$out/large.h5" --labels "batches of 128" "batches of 2,048" \
  -o "$out/two_models.html"

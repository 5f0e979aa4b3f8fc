#!/bin/bash
# One function, written with two sets of weights: what filter normalization is for.
#
#     bash examples/scale_invariance/run.sh        OUT=folder: where to; SMALL=1: a small form of it, in a folder small
#
# A perceptron is trained; in a second copy the first layer is five times as large and the second a fifth, which ReLU does not
# notice: both compute the same. Along plain random directions of one length the second looks sharper or flatter, along
# filter-normalized ones both curves are the same.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd) out=${OUT:-.}${SMALL:+/small}
mkdir -p "$out"
limit=${SMALL:+100} cells=${SMALL:+5} epochs=${SMALL:+1}
[ -e "$out/plain.safetensors" ] || python "$root/train.py" --model mlp --dataset fashion_mnist_mini --limit "${limit:-2000}" \
  --epochs "${epochs:-20}" --lr 0.05 --warmup 20 --out "$out/plain.safetensors"
python - "$out" <<'SCALED'
import sys
from safetensors.torch import load_file, save_file

net = load_file(f"{sys.argv[1]}/plain.safetensors")
for name, factor in {"1.weight": 5, "1.bias": 5, "3.weight": 1 / 5}.items():
    net[name] *= factor
save_file(net, f"{sys.argv[1]}/scaled.safetensors")
SCALED
for net in plain scaled; do
  for norm in filter unit; do
    x=-1:1:${cells:-41} how=(--xnorm filter)
    if [ $norm = unit ]; then x=-15:15:${cells:-41} how=(--xnorm unit); fi
    python "$root/plot_surface.py" --model mlp --model_file "$out/$net.safetensors" --dataset fashion_mnist_mini \
      --limit "${limit:-1000}" --x=$x "${how[@]}" --xignore biasbn --dir_file "$out/${net}_${norm}_direction.h5" \
      --surf_file "$out/${net}_$norm.h5"
  done
done
python "$root/plot_1D.py" --surf_file "$out"/{plain,scaled}_unit.h5 --labels "as trained" "layers scaled by 5 and 1/5" \
  --title "one direction of unit length" --out "$out/scale_unit"
python "$root/plot_1D.py" --surf_file "$out"/{plain,scaled}_filter.h5 --labels "as trained" "layers scaled by 5 and 1/5" \
  --title "one filter-normalized direction: the curves coincide" --out "$out/scale_filter"

#!/bin/bash
# The four figures of the README of the release of Li et al. (2018), from its own command lines.
#
#     bash examples/original_readme/run.sh        OUT=folder: where to; SMALL=1: a small form of it, in a folder small
#
# Its checkpoints cannot be shipped, so the networks are trained here on the bundled images (VGG-9 with batches of 128 and of
# 500) or lie here (ResNet-56), and --dataset and --limit say so; --cuda is left out, and the numbers of points are those of
# that README but for the 401 of the interpolation.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${OUT:-.}${SMALL:+/small}
mkdir -p "$out" && cd "$out"
data=(--dataset fashion_mnist_mini) limit=${SMALL:+10} epochs=${SMALL:+1} cells=${SMALL:+3}
train() { python "$root/train.py" --model vgg9 "${data[@]}" --limit "${limit:-1000}" --epochs "${epochs:-5}" --warmup 10 "$@"; }
run() { mpirun -n 2 python "$root/plot_surface.py" --mpi "${data[@]}" "$@" --plot; }
[ -e small.safetensors ] || train --batch_size 128 --lr 0.05 --weight_decay 0 --out small.safetensors
[ -e large.safetensors ] || train --batch_size 500 --lr 0.05 --weight_decay 0 --epochs "${epochs:-12}" --out large.safetensors
run --model vgg9 --x=-0.5:1.5:"${cells:-61}" --dir_type states --limit "${limit:-100}" --split both \
  --model_file small.safetensors --model_file2 large.safetensors --dir_file interpolation_directions.h5 --surf_file interpolation.h5
run --model vgg9 --x=-1:1:"${cells:-51}" --limit "${limit:-100}" --split both --model_file small.safetensors \
  --dir_type weights --xnorm filter --xignore biasbn --dir_file curve_directions.h5 --surf_file curve.h5
run --model resnet56 --x=-1:1:"${cells:-51}" --y=-1:1:"${cells:-51}" --limit "${limit:-50}" \
  --model_file "$root/trained_nets/resnet56_fashion_mnist.safetensors" \
  --dir_type weights --xnorm filter --xignore biasbn --ynorm filter --yignore biasbn --dir_file contour_directions.h5 --surf_file contour.h5
python "$root/h52vtp.py" --surf_file contour.h5 --surf_name train_loss --zmax 10 --log

#!/bin/bash
# The four figures of the README of the release of Li et al. (2018), from its own command lines.
#
#     bash examples/original_readme/run.sh        OUT=folder: where to; SMALL=1: a small form of it
#
# Its checkpoints cannot be shipped, so the networks are trained here on the bundled images (VGG-9 with batches of 128 and of
# 1,024) or lie here (ResNet-56), and --dataset and --limit say so; --cuda is left out, and the numbers of points are those of
# that README but for the 401 of the interpolation.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "${OUT:-.}" && cd "${OUT:-.}"
data=(--dataset fashion_mnist_mini) limit=${SMALL:+10} epochs=${SMALL:+1} cells=${SMALL:+3}
train() { python "$root/train.py" --model vgg9 "${data[@]}" --limit "${limit:-2000}" --epochs "${epochs:-15}" --warmup 20 "$@"; }
run() { mpirun -n 2 python "$root/plot_surface.py" --mpi "${data[@]}" "$@" --plot; }
[ -e small.safetensors ] || train --batch_size 128 --lr 0.05 --weight_decay 0 --out small.safetensors
[ -e large.safetensors ] || train --batch_size 1024 --lr 0.1 --weight_decay 0 --epochs "${epochs:-40}" --out large.safetensors
run --model vgg9 --x=-0.5:1.5:"${cells:-101}" --dir_type states --limit "${limit:-200}" --split both \
  --model_file small.safetensors --model_file2 large.safetensors --surf_file interpolation.h5
run --model vgg9 --x=-1:1:"${cells:-51}" --limit "${limit:-200}" --split both --model_file small.safetensors \
  --dir_type weights --xnorm filter --xignore biasbn --surf_file curve.h5
run --model resnet56 --x=-1:1:"${cells:-51}" --y=-1:1:"${cells:-51}" --limit "${limit:-100}" \
  --model_file "$root/trained_nets/resnet56_fashion_mnist.safetensors" \
  --dir_type weights --xnorm filter --xignore biasbn --ynorm filter --yignore biasbn --surf_file contour.h5
python "$root/h52vtp.py" --surf_file contour.h5 --surf_name train_loss --zmax 10 --log

#!/usr/bin/env bash
# Compute and draw the pictures of the README, with the project's environment: docs/make_pictures.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
net=trained_nets
data=(--dataset fashion_mnist_mini)
filter=(--xnorm filter --xignore biasbn)
plane=("${filter[@]}" --ynorm filter --yignore biasbn)
run() { mpirun -n 2 python plot_surface.py --mpi "${data[@]}" "$@"; }

python plot_2D.py --surf_file docs/resnet56{,_noshort}_cifar10.h5 --labels "ResNet-56" "ResNet-56 without shortcuts" \
  --out "$work/famous" --format png --dpi 150
cp "$work/famous_train_loss_3dsurface.png" docs/famous.png

make demo
cp demo/landscapes_train_loss_2dcontour.png docs/landscapes_contour.png
python plot_2D.py --surf_file demo/resnet56_21x21_500.h5 --out "$work/one"
cp "$work/one_train_loss_2dcontourf.png" docs/surface.png

run --model resnet56 --model_file $net/resnet56_fashion_mnist.safetensors --limit 500 --split both --x=-1:1:41 \
  "${filter[@]}" --dir_file "$work/d.h5" --surf_file "$work/curve.h5" --plot
cp "$work/curve.h5_1d_loss_acc"*.png docs/curve.png

run --model resnet20 --model_file $net/resnet20_small_batch.safetensors \
  --model_file2 $net/resnet20_large_batch.safetensors --dir_type states --split both --x=-0.1:1.1:25 \
  --dir_file "$work/i.h5" --surf_file "$work/interpolation.h5" --plot
cp "$work/interpolation.h5_1d_loss_acc"*.png docs/interpolation.png

for i in 1 2 3 4 5 6 7 8; do
  run --model resnet20 --model_file $net/resnet20_small_batch.safetensors --limit 500 --split both --x=-1:1:31 \
    "${filter[@]}" --idx $i --dir_file "$work/r$i.h5" --surf_file "$work/repeat_$i.h5"
done
python plot_1D.py --prefix "$work/repeat" --idx_max 8
cp "$work/repeat_1d_loss_err_repeat"*.png docs/repeats.png

python train.py --model resnet20 "${data[@]}" --epochs 12 --save "$work" --save_epoch 1 --warmup 16
folder=$(echo "$work"/resnet20_*)
python plot_trajectory.py --model resnet20 "${data[@]}" --model_folder "$folder" --start_epoch 1 --max_epoch 12
pca="$folder/PCA_weights_save_epoch=1/directions.h5"
run --model resnet20 --limit 500 --model_file "$folder/model_12.t7" --dir_file "$pca" --x=-10:2:13 --y=-3:4:15 \
  --surf_file "$work/path.h5"
python plot_2D.py --surf_file "$work/path.h5" --proj_file "${pca}_proj_cos.h5" --dir_file "$pca"
cp "$work/path.h5_train_loss_2dcontour.png" docs/trajectory.png

for what in random gradient eigenvector; do
  run --model resnet20 --model_file $net/resnet20_small_batch.safetensors --limit 200 --x=-1:1:41 --curvature \
    --xdirection $what --xnorm unit --dir_file "$work/$what.h5" --surf_file "$work/along_$what.h5"
done
python plot_1D.py --surf_file "$work"/along_{random,gradient,eigenvector}.h5 --labels random gradient "top eigenvector" \
  --out "$work/along"
cp "$work/along_1d_compare"*.png docs/directions.png

small=("${data[@]}" --model resnet20 --model_file $net/resnet20_small_batch.safetensors)
python hessian_spectrum.py "${small[@]}" --limit 256 --top 5 --probes 3 --spectrum_file "$work/spectrum.h5" --plot
cp "$work/spectrum.h5_density.png" docs/spectrum.png

python plot_hessian_eigen.py "${small[@]}" --limit 96 --x=-0.5:0.5:21 "${filter[@]}" --dir_file "$work/e.h5" \
  --surf_file "$work/eigen.h5" --plot
cp "$work/eigen.h5_1d_eig.png" docs/eigen.png

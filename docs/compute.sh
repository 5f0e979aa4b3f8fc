#!/usr/bin/env bash
# Compute the surfaces from which `make gallery` draws: docs/compute.sh [FOLDER]     (half an hour; goes on where it stopped)
#
# docs/surfaces/resnet56_cifar10.h5 and its sister are of the paper's own networks and data, which do not lie here.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
work=${1:-$(mktemp -d)}
net=trained_nets
data=(--dataset fashion_mnist_mini)
filter=(--xnorm filter --xignore biasbn)
plane=("${filter[@]}" --ynorm filter --yignore biasbn)
small=("${data[@]}" --model resnet20 --model_file $net/resnet20_small_batch.safetensors)
run() { mpirun -n 2 python plot_surface.py --mpi "${data[@]}" "$@"; }
keep() {
  rm -f "docs/surfaces/$2"
  python h5_util.py "$1" --slim "docs/surfaces/$2"
}

for name in resnet56 resnet56_noshort; do
  run --model $name --model_file $net/${name}_fashion_mnist.safetensors --limit 500 --x=-1:1:21 --y=-1:1:21 "${plane[@]}" \
    --dir_file "$work/${name}_d.h5" --surf_file "$work/$name.h5"
  keep "$work/$name.h5" ${name}_fashion.h5
done

run --model resnet56 --model_file $net/resnet56_fashion_mnist.safetensors --limit 500 --split both --x=-1:1:41 \
  "${filter[@]}" --dir_file "$work/d.h5" --surf_file "$work/curve.h5"
keep "$work/curve.h5" curve.h5

run --model resnet20 --model_file $net/resnet20_small_batch.safetensors \
  --model_file2 $net/resnet20_large_batch.safetensors --dir_type states --split both --x=-0.1:1.1:25 \
  --dir_file "$work/i.h5" --surf_file "$work/interpolation.h5"
keep "$work/interpolation.h5" interpolation.h5

for i in 1 2 3 4 5 6 7 8; do
  run --model resnet20 --model_file $net/resnet20_small_batch.safetensors --limit 500 --split both --x=-1:1:31 \
    "${filter[@]}" --idx $i --dir_file "$work/r$i.h5" --surf_file "$work/repeat_$i.h5"
  keep "$work/repeat_$i.h5" repeat_$i.h5
done

for what in random gradient eigenvector; do
  run --model resnet20 --model_file $net/resnet20_small_batch.safetensors --limit 200 --x=-10:10:41 --curvature \
    --xdirection $what --xnorm unit --dir_file "$work/$what.h5" --surf_file "$work/along_$what.h5"
  keep "$work/along_$what.h5" along_$what.h5
done

python hessian_spectrum.py "${small[@]}" --limit 256 --top 5 --probes 3 --activations "layer[123]$" Linear --layers \
  --spectrum_file "$work/spectrum.h5"
keep "$work/spectrum.h5" spectrum.h5

python plot_hessian_eigen.py "${small[@]}" --limit 96 --x=-0.5:0.5:21 "${filter[@]}" --dir_file "$work/e.h5" \
  --surf_file "$work/eigen.h5"
keep "$work/eigen.h5" eigen.h5
mpirun -n 2 python plot_hessian_eigen.py --mpi "${small[@]}" --limit 32 --x=-0.5:0.5:7 --y=-0.5:0.5:7 "${plane[@]}" \
  --dir_file "$work/em.h5" --surf_file "$work/eigen_map.h5"
keep "$work/eigen_map.h5" eigen_map.h5

if [ ! -d "$work/run" ]; then
  python train.py --model resnet20 "${data[@]}" --epochs 12 --save "$work/run" --save_epoch 1 --warmup 16
fi
folder=$(echo "$work"/run/resnet20_*)
mpirun -n 2 python plot_trajectory.py --mpi --model resnet20 "${data[@]}" --limit 500 --model_folder "$folder" \
  --surface 25x17 --surf_file "$work/path.h5"
keep "$work/path.h5" path.h5
cp "$work/path_path.h5" docs/surfaces/path_projection.h5

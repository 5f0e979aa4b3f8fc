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

run --model resnet20 --model_file $net/resnet20_small_batch.safetensors --limit 300 --split both --x=-1:1:31 \
  "${filter[@]}" --repeat 8 --surf_file "$work/repeats.h5"
keep "$work/repeats.h5" repeats.h5

for way in kept recalibrated; do
  how=(--dir_type states)
  if [ $way = recalibrated ]; then how=(--bn recalibrate); fi
  run --model resnet20 --model_file $net/resnet20_small_batch.safetensors --limit 1000 \
    --model_file2 $net/resnet20_large_batch.safetensors "${how[@]}" --x=0:1:41 \
    --dir_file "$work/$way"_d.h5 --surf_file "$work/$way.h5"
  keep "$work/$way.h5" $way.h5
done

for i in 1 2; do
  python train.py --model mlp "${data[@]}" --epochs 20 --seed $i --lr 0.05 --warmup 20 --out "$work/mlp_$i.safetensors"
done
ends=(--model mlp --model_file "$work/mlp_1.safetensors" --model_file2 "$work/mlp_2.safetensors")
run "${ends[@]}" --x=0:1:41 --dir_file "$work/naive_d.h5" --surf_file "$work/naive.h5"
run "${ends[@]}" --x=0:1:41 --align --dir_file "$work/aligned_d.h5" --surf_file "$work/aligned.h5"
python -m lossatlas train-curve "${ends[@]}" "${data[@]}" --epochs 20 --out "$work/bend.safetensors"
run "${ends[@]}" --x=0:1:41 --curve bezier --control_points "$work/bend.safetensors" --surf_file "$work/bezier.h5"
run "${ends[@]}" --model_file3 "$work/bend.safetensors" --orthogonalize --x=-0.25:1.25:31 --y=-0.4:0.7:23 \
  --dir_file "$work/curve_plane_d.h5" --surf_file "$work/curve_plane.h5"
for name in naive aligned bezier curve_plane; do keep "$work/$name.h5" $name.h5; done

python train.py --model resnet20 "${data[@]}" --epochs 8 --seed 3 --warmup 16 --out "$work/resnet20_other.safetensors"
for way in kept recalibrated; do
  how=(--dir_type states)
  if [ $way = recalibrated ]; then how=(--bn recalibrate --bn_samples 500); fi
  run --model resnet20 --model_file $net/resnet20_small_batch.safetensors --limit 200 \
    --model_file2 $net/resnet20_large_batch.safetensors --model_file3 "$work/resnet20_other.safetensors" "${how[@]}" \
    --x=-0.3:1.3:17 --y=-0.3:1.3:17 --dir_file "$work/three_${way}_d.h5" --surf_file "$work/three_$way.h5"
  keep "$work/three_$way.h5" three_$way.h5
done

run --model resnet20 --model_file $net/resnet20_small_batch.safetensors --limit 300 --x=-1:1:21 "${filter[@]}" --per_layer \
  --dir_file "$work/layers_d.h5" --surf_file "$work/layers.h5"
keep "$work/layers.h5" layers.h5

for batch in small large; do
  python -m lossatlas sharpness --model resnet20 --model_file $net/resnet20_${batch}_batch.safetensors "${data[@]}" --limit 300 \
    --steps 15 --sharpness_file "$work/sharpness_$batch.h5"
  keep "$work/sharpness_$batch.h5" sharpness_$batch.h5
done

for what in random gradient eigenvector; do
  run --model resnet20 --model_file $net/resnet20_small_batch.safetensors --limit 200 --x=-10:10:41 --curvature \
    --xdirection $what --xnorm unit --dir_file "$work/$what.h5" --surf_file "$work/along_$what.h5"
  keep "$work/along_$what.h5" along_$what.h5
done

python hessian_spectrum.py "${small[@]}" --limit 256 --top 5 --probes 3 --activations "layer[123]$" Linear --layers \
  --spectrum_file "$work/spectrum.h5"
keep "$work/spectrum.h5" spectrum.h5
spirals=(--model examples/spirals.py:make_net --model_file examples/spirals.pt --dataset examples/spirals.py:data)
for matrix in hessian ggn; do
  python hessian_spectrum.py "${spirals[@]}" --top 5 --probes 3 --matrix $matrix --spectrum_file "$work/spirals_$matrix.h5"
  cp "$work/spirals_$matrix.h5" docs/surfaces/ # with its eigenvectors
done
python -m lossatlas learning-coefficient "${spirals[@]}" --threads 1 --coefficient_file "$work/spirals_coefficient.h5"
cp "$work/spirals_coefficient.h5" docs/surfaces/

python plot_surface.py "${small[@]}" --limit 100 --x=-0.5:0.5:11 --y=-0.5:0.5:11 --z=-0.5:0.5:11 "${plane[@]}" \
  --znorm filter --zignore biasbn --dir_file "$work/volume_d.h5" --surf_file "$work/volume.h5"
keep "$work/volume.h5" volume.h5

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
mpirun -n 2 python plot_trajectory.py --mpi --model resnet20 "${data[@]}" --limit 500 --model_folder "$folder" \
  --plane local --surface 37x13 --surf_file "$work/chart.h5"
keep "$work/chart.h5" chart.h5
cp "$work/chart_path.h5" docs/surfaces/chart_path.h5

gpt=examples/todays_networks/gpt.py
if [ ! -f "$work/gpt.pt" ]; then python $gpt "$work/gpt.pt"; fi
python plot_surface.py --model $gpt:make --model_file "$work/gpt.pt" --dataset $gpt:data --limit 256 --x=-1:1:41 --y=-1:1:41 \
  "${plane[@]}" --dir_file "$work/gpt_d.h5" --surf_file "$work/gpt.h5"
keep "$work/gpt.h5" gpt.h5

# docs/surfaces/julia.h5 is of examples/julia/run.sh, which takes a CUDA device.

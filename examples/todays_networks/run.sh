#!/bin/bash
# Six networks of today, each along a random direction ('most-case') and along the Hessian's top eigenvector ('worst-case') of
# the same length, with the top eigenvalue: a vision transformer, a GPT, LoRA, a physics-informed network, an adversarially
# trained one, a value function.
#
#     bash examples/todays_networks/run.sh                           a few minutes on two cores
#     OUT=folder SMALL=1 bash examples/todays_networks/run.sh        a minute: few steps and samples, three points, two spectra
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$(dirname "$here")")
out=${OUT:-.}${SMALL:+/small}
mkdir -p "$out"
points=41 samples=256 steps=() spectra=" vit gpt lora pinn adversarial value "
if [ -n "${SMALL:-}" ]; then points=3 samples=8 steps=(20) spectra=" gpt pinn "; fi

show() { # name, length of the curves, further options
  local name=$1 length=$2 file=$here/$1.py
  shift 2
  local what=(--model "$file:make" --model_file "$out/$name.pt" --dataset "$file:data" --limit "$samples" "$@")
  for direction in random eigenvector; do
    python "$root/plot_surface.py" "${what[@]}" --xdirection $direction --xnorm unit --x="-$length:$length:$points" \
      --surf_file "$out/${name}_$direction.h5" --dir_file "$out/${name}_${direction}_direction.h5"
  done
  if [[ $spectra == *" $name "* ]]; then
    python "$root/hessian_spectrum.py" "${what[@]}" --top 1 --bottom 0 --max_trace_products 4 \
      --spectrum_file "$out/${name}_spectrum.h5"
  fi
}

python "$here/train.py" "$out" "${steps[@]}"
show vit 2
show gpt 2
show lora 2 --only lora_
show pinn 1 --loss_name "$here/pinn.py:loss"
show adversarial 2 --loss_name "$here/adversarial.py:loss"
show value 1 --loss_name "$here/value.py:loss" --only ^online
python "$here/figure.py" "$out"

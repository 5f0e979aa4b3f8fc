#!/bin/bash
# One rank per GPU on two nodes. If the time limit ends the job, submit it again: it continues.
#SBATCH --job-name=loss-surface
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60

srun --mpi=pmix python plot_surface.py --mpi --cuda \
    --model resnet56 --model_file model_300.t7 --dataset cifar10 --datapath "$HOME/data" \
    --x=-1:1:51 --y=-1:1:51 --xnorm filter --xignore biasbn --ynorm filter --yignore biasbn \
    --surf_file surface.h5
status=$?
# 4: stopped before the end, and everything so far is saved.
if [ "$status" = 4 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$status"

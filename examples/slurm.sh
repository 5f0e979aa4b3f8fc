#!/bin/bash
# A surface, a map or a spectrum as a job of SLURM: one rank per GPU on two nodes.
#
#     python plot_surface.py --dry_run --surf_file surface.h5 --model resnet56 ...     on the login node: is all there?
#     sbatch examples/slurm.sh plot_surface.py --cuda --surf_file surface.h5 --model resnet56 ...
#
# Two minutes before its time is over, and when another job takes its place, the ranks get a signal, save what is done, and
# end with exit code 4; then the job goes into the queue again, and continues. Set partition and account to yours.
#SBATCH --job-name=loss-surface
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120

MOST=50 # times that it goes into the queue again

# A rank that is killed takes the others along (--kill-on-bad-exit); otherwise they would wait for it until the time is over.
srun --mpi="${SLURM_MPI:-pmix}" --kill-on-bad-exit=1 python "$@" --mpi
status=$?

# 4: stopped before the end. Above 128: killed, and what was saved a second before is there. All else would happen again.
if { [ "$status" -eq 4 ] || [ "$status" -gt 128 ]; } && [ "${SLURM_RESTART_COUNT:-0}" -lt "$MOST" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"

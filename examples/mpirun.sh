#!/bin/bash
# The same with plain mpirun, as under PBS, LSF or on a workstation: starts again what was stopped before its end.
#
#     RANKS=4 bash examples/mpirun.sh plot_surface.py --surf_file surface.h5 --model resnet56 ...
#
# Every way to end has an exit code: 0 complete, 2 to 3 something to put right, 4 incomplete, 5 no place to write.

for attempt in $(seq "${ATTEMPTS:-20}"); do
    mpirun -n "${RANKS:-2}" python "$@" --mpi
    status=$?
    # Where its own time is over, a batch system ends this script too; the same job, submitted again, continues.
    if [ "$status" -ne 4 ] && [ "$status" -le 128 ] && [ "$status" -ne 9 ]; then exit "$status"; fi
    echo "attempt $attempt ended with $status" >&2
    sleep "${PAUSE:-5}"
done
exit "$status"

"""Tests that run on several ranks at once: mpirun -n 3 python -m pytest tests/mpi (see tests/test_mpi.py)."""

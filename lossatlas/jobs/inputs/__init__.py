"""Inputs of jobs: networks, data, losses and directions, by name or as objects; what identifies them; where results are written."""

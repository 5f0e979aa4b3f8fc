"""Inputs of jobs: networks, data, losses and directions, by name or as objects; their identity; names of results."""

"""Sampling of a grid: which cells are computed (adaptive grids), and with how many samples (multilevel sampling)."""

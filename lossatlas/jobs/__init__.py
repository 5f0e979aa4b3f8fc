"""Whole computations over a grid: what a surface, or a map of eigenvalues, is made of."""

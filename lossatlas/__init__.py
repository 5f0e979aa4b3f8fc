"""The loss landscape of a neural network: surfaces, curvature and paths of training."""

__version__ = "0.2.0.dev0"

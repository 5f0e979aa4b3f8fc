"""Training of networks, with checkpoints that a trajectory can be drawn through."""

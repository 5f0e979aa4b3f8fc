"""The path of a training run in a plane."""

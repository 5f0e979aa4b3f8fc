"""Jobs over a grid: the points, the quantities that are computed at them, and the loop over ranks."""

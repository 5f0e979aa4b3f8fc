"""Jobs with the Hessian at one point: its spectrum, and the sharpness of a minimum, over any number of ranks."""

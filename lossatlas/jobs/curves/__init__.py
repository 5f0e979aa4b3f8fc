"""Curves of low loss between two networks: their ends, their training, and the losses along them."""

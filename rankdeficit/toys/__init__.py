"""Toy models trained in batches of runs, and closed forms of their optima and dynamics."""

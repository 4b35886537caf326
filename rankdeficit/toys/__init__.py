"""Toy models that learn in seconds, many runs at a time, and the closed forms of their optima."""

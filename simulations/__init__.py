"""Experiments on toy models, each a command: python -m simulations.NAME --help."""

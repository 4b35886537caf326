"""Experiments on toy models, each a command: python -m simulations.NAME --help."""

import rankdeficit  # noqa: F401  # before matplotlib, see rankdeficit._matplotlib

"""Levers that set the logits norm, rank and depth of a classifier, one file each."""

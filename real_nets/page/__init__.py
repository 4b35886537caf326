"""Figures from the records of runs alone; each is None where the records have nothing to draw.

Runs that differ in nothing but their seed are seeds of one network: lines are their medians, bands
their ranges.
"""

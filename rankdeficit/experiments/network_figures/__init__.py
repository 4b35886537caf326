"""Figures drawn from the records of runs; a figure function returns None if there is nothing to draw.

Lines are medians over runs that differ only in their seed, bands are their ranges.
"""

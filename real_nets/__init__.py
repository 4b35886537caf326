"""The same measures on real networks and real images."""

"""Recipe, training loop, memory layout."""

"""Recipe and training loop."""

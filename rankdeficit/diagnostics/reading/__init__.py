"""How a network is read while it runs over data: its layers, what they make, and what is kept of it."""

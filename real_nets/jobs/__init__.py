"""One network from start to end: trained, measured, diagnosed, in a folder of its own."""

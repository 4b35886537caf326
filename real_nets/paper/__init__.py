"""The paper's numbers, tables and figures, and the jobs that reproduce them."""

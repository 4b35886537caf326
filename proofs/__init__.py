"""Claims of the theory: a module with checks for each, and a readable proof in Markdown beside it.

A module states its claim, derives it symbolically where it is algebra, checks all cases where they are
finite, and certifies random instances in exact rational or ball arithmetic elsewhere. "The paper" is
"Unpacking Softmax", arXiv 2506.01562.

    python -m proofs
    python -m proofs proposition-3-1 --instances 10000
"""

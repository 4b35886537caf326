"""Claims of the theory, one module per claim, with a readable proof in a Markdown file beside it.

A module states a claim, derives its algebra symbolically, checks all cases if they are finite, and
otherwise certifies random instances in exact rational or ball arithmetic. "The paper" is "Unpacking
Softmax", arXiv 2506.01562.

    python -m proofs
    python -m proofs proposition-3-1 --instances 10000
"""

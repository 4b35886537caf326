"""The theory, proved: one module per claim, a readable proof in Markdown beside each.

A module states its claim, derives it symbolically where it is algebra, and certifies it in exact
rational or ball arithmetic on many instances, exhaustively where the cases are finite. "The paper"
is "Unpacking Softmax", arXiv 2506.01562.

    python -m proofs
    python -m proofs proposition-3-1 --instances 10000
"""

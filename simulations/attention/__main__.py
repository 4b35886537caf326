"""`python -m simulations.attention`."""

from simulations.attention import AttentionRank

if __name__ == "__main__":
    AttentionRank().main()

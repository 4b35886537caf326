"""`python -m simulations.equivalence`."""

from simulations.equivalence import Equivalence

if __name__ == "__main__":
    Equivalence().main()

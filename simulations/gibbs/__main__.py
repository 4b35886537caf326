"""`python -m simulations.gibbs`."""

from simulations.gibbs import Gibbs

if __name__ == "__main__":
    Gibbs().main()

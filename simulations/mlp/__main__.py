"""`python -m simulations.mlp`."""

from simulations.mlp import Mlp

if __name__ == "__main__":
    Mlp().main()

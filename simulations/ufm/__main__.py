"""`python -m simulations.ufm`."""

from simulations.ufm import Ufm

if __name__ == "__main__":
    Ufm().main()

"""`python -m simulations.dynamics`."""

from simulations.dynamics import Dynamics

if __name__ == "__main__":
    Dynamics().main()

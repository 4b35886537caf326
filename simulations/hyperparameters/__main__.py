"""`python -m simulations.hyperparameters`."""

from simulations.hyperparameters import Hyperparameters

if __name__ == "__main__":
    Hyperparameters().main()

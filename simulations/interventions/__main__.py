"""`python -m simulations.interventions`."""

from simulations.interventions import Interventions

if __name__ == "__main__":
    Interventions().main()

"""List the simulations: `python -m simulations`."""

import simulations
from rankdeficit.experiments.experiment import list_experiments

if __name__ == "__main__":
    list_experiments(simulations)

"""`python -m simulations.explain`."""

from simulations.explain import Explain

if __name__ == "__main__":
    Explain().main()

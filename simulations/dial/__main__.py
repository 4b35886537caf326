"""`python -m simulations.dial`."""

from simulations.dial import Dial

if __name__ == "__main__":
    Dial().main()

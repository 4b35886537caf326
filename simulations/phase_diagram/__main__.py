"""`python -m simulations.phase_diagram`."""

from simulations.phase_diagram import PhaseDiagram

if __name__ == "__main__":
    PhaseDiagram().main()

"""A command of the project with a network that is defined here: python FILE COMMAND ARGUMENTS."""

import importlib
import math
import sys

from torch import nn

from rankdeficit.experiments import cli
from real_nets.models import Shape, register


@register("MyNet", options={"small": {"lr": 0.02}})
def mynet(*, inputs: Shape, classes: int, width: int = 4) -> nn.Module:
    """A perceptron of two layers."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(inputs), width), nn.ReLU(), nn.Linear(width, classes)
    )


if __name__ == "__main__":
    command = importlib.import_module(f"real_nets.{sys.argv.pop(1)}")
    cli.main(command.Settings, command.run, command.PROGRAM)

"""The network within wrappers, and networks whose layers cannot be read."""

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import GraphModule
from torch.nn.parameter import is_lazy

GRAPH = (
    "in which no layer is a module any more, so that none can be read; pass the module that it was "
    "exported from"
)

QUANTISED = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.ao.nn.sparse.quantized",
    "torchao.",
    "bitsandbytes.",
)
"""Beginnings of the names of packages whose modules and parameters are quantised."""


def unwrap(model: nn.Module) -> nn.Module:
    """The network itself, without torch.compile, DataParallel and DistributedDataParallel around it.

    Raises ValueError, with the cause, for what cannot be hooked or has no weights to read: scripted,
    exported, quantised and sharded (FSDP) networks, and weights that are lazy or on the meta device.
    """
    if type(model).__name__ == "ExportedProgram":
        raise ValueError(f"model is an ExportedProgram, {GRAPH}")
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is a {type(model).__name__}; it must be a torch.nn.Module")
    while True:
        if isinstance(model, torch.jit.ScriptModule):
            raise ValueError(
                "model is a scripted module, whose layers cannot be read; pass the module it was made of"
            )
        if any(kind.__name__.startswith(("FullySharded", "FSDP")) for kind in type(model).__mro__):
            raise ValueError(
                "model is sharded (FSDP), so no process holds its weights; gather them into the plain "
                "module first"
            )
        wrapped = getattr(model, "_orig_mod", None)
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            wrapped = model.module
        if wrapped is None:
            break
        model = wrapped
    _check_modules(model)
    _check_weights(model)
    return model


def _check_modules(model: nn.Module) -> None:
    """Raise ValueError for graphs of operations that use weights without calling their modules."""
    for name, module in model.named_modules():
        if not isinstance(module, GraphModule) or (
            name and next(module.parameters(), None) is None
        ):
            continue
        called = [str(node.target) for node in module.graph.nodes if node.op == "call_module"]
        if not any(True for own in called for _ in module.get_submodule(own).parameters()):
            raise ValueError(
                f"model {f'has {name}, ' if name else 'is '}a graph of operations, {GRAPH}"
            )


def _check_weights(model: nn.Module) -> None:
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        integer = weight is not None and not (weight.is_floating_point() or weight.is_complex())
        if integer or any(type(own).__module__.startswith(QUANTISED) for own in (module, weight)):
            raise ValueError(
                f"model has quantised weights in {name or type(model).__name__} "
                f"({type(module).__name__}), which are no real matrices; pass the floating-point network "
                "that was quantised"
            )
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ValueError(
                f"model has no {name} yet; run it on a batch, or load its weights first"
            )
        if parameter.is_meta or isinstance(parameter, FakeTensor):
            kind = "on the meta device" if parameter.is_meta else "made under FakeTensorMode"
            raise ValueError(f"model has {name} {kind}, without values; load its weights first")

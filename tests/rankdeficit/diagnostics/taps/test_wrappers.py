"""Networks in wrappers, compiled ones, and those that cannot be read."""

import warnings

import pytest
import torch
from torch import nn

from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import pick_logits
from rankdeficit.diagnostics.reading.wrappers import unwrap
from tests.rankdeficit.diagnostics.taps.networks import (
    IMAGES,
    VECTORS,
    CifarResNet,
    Reused,
    names,
    read_layers,
    seeded,
)


def test_data_parallel_and_compiled_networks_are_unwrapped() -> None:
    model = seeded(Reused())
    compiled = torch.compile(model, backend="eager")
    for wrapped in (nn.DataParallel(model), compiled, nn.DataParallel(compiled)):
        assert unwrap(wrapped) is model
        network = Network.of(wrapped, VECTORS, None, pick_logits)
        assert [layer.name for layer in network.layers.chosen] == names(model, VECTORS)


def test_distributed_data_parallel_is_unwrapped() -> None:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = seeded(Reused())
        assert unwrap(nn.parallel.DistributedDataParallel(model)) is model
    finally:
        torch.distributed.destroy_process_group()


def test_networks_compiled_in_place_or_in_part_are_read_as_if_they_were_not() -> None:
    plain, whole, part = (seeded(CifarResNet(1, "after")) for _ in range(3))
    expected = read_layers(plain, IMAGES)
    whole.compile(backend="eager")
    part.blocks[1] = torch.compile(part.blocks[1], backend="eager")
    with torch.no_grad():
        for model in (whole, part):
            model(IMAGES)  # compiled before, so that hooks come to a compiled network
            found = read_layers(model, IMAGES)
            assert [name.replace("_orig_mod.", "") for name in found] == list(expected)
            torch.testing.assert_close(list(found.values()), list(expected.values()))


def test_networks_that_cannot_be_read_are_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        scripted = torch.jit.script(nn.Sequential(nn.Linear(6, 4)))
    with pytest.raises(ValueError, match="scripted"):
        unwrap(nn.DataParallel(scripted))
    for name in ("FullyShardedDataParallel", "FSDPSequential"):
        sharded = type(name, (nn.Sequential,), {})(nn.Linear(6, 4))
        with pytest.raises(ValueError, match=r"sharded \(FSDP\)"):
            unwrap(sharded)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_module_is_named() -> None:
    with pytest.raises(ValueError, match=r"model.*function"):
        unwrap(names)  # type: ignore[arg-type]


def quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is deprecated
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 4)))


@pytest.mark.usefixtures("unchecked")
def test_networks_without_weights_to_read_are_refused_with_the_cause() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    graph = torch.fx.Graph()  # as exported: weights multiplied by operations, guards a module
    inputs = graph.placeholder("x")
    graph.call_module("1", (inputs,))
    graph.output(graph.call_function(torch.mm, (inputs, graph.get_attr("0.weight"))))
    exported = torch.fx.GraphModule(model, graph)
    integers = nn.Sequential(nn.Linear(6, 4))
    weight = torch.ones(4, 6, dtype=torch.int8)
    integers[0].weight = nn.Parameter(weight, requires_grad=False)
    for wrong, cause in (
        (exported, "exported"),
        (nn.Sequential(nn.Linear(6, 6), exported), "has 1.*exported"),
        (nn.Sequential(nn.Linear(6, 4), nn.LazyLinear(3)), r"1\.weight"),
        (quantised(), "quantised.* 0"),
        (integers, "quantised.* 0"),
        (nn.Sequential(nn.Linear(6, 4, device="meta")), r"0\.weight.* meta "),
    ):
        with pytest.raises(ValueError, match=cause):
            unwrap(wrong)
    assert unwrap(torch.fx.symbolic_trace(model)) is not None  # its layers are modules still


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_exported_networks_are_refused_with_the_cause() -> None:
    exported = torch.export.export(nn.Sequential(nn.Linear(6, 4)), (torch.zeros(2, 6),))
    for wrong in (exported, exported.module()):
        with pytest.raises(ValueError, match="exported"):
            unwrap(wrong)  # type: ignore[arg-type]

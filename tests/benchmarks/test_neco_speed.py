"""NECO against scikit-learn, in one run: pytest tests/benchmarks/test_neco_speed.py -m benchmark -s."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor

from rankdeficit.diagnostics import detection
from rankdeficit.diagnostics.measures.neco import fit_neco
from rankdeficit.diagnostics.states.moments import Moments
from tests.benchmarks import timing
from tests.benchmarks.timing import THREADS, meet, seconds, size

pytestmark = pytest.mark.benchmark
BATCH = 1000


def features(classes: int) -> list[Tensor]:
    """Train, ID test and OOD features as after a ReLU."""
    generator = torch.Generator().manual_seed(0)
    width, trained, tested = size((512, 50_000, 10_000), (128, 2_000, 500))
    known, strange = torch.randn(2, classes, width, generator=generator)
    parts = []
    for means, n in ((known, trained), (known, tested), (0.9 * known + 0.1 * strange, tested)):
        labels = torch.randint(classes, (n,), generator=generator)
        parts.append((means[labels] + 3 * torch.randn(n, width, generator=generator)).relu())
    return parts


def streamed(parts: list[Tensor], dimension: int) -> list[Tensor]:
    moments = Moments(parts[0].shape[1])
    for batch in parts[0].split(BATCH):
        moments.update(batch)
    fitted = fit_neco(moments, "resnet", dimension)
    return [torch.cat([fitted.scores(batch) for batch in part.split(BATCH)]) for part in parts]


def in_memory(parts: list[np.ndarray], dimension: int, components: int | None) -> list[Tensor]:
    scaler = StandardScaler()
    scaled = [scaler.fit_transform(parts[0]), *(scaler.transform(part) for part in parts[1:])]
    pca = PCA(components).fit(scaled[0])
    reduced = [pca.transform(part)[:, :dimension] for part in scaled]
    return [
        torch.from_numpy(-np.linalg.norm(own, axis=1) / np.linalg.norm(part, axis=1))
        for own, part in zip(reduced, scaled, strict=True)
    ]


@pytest.mark.parametrize("classes", [10, 100])
def test_neco_against_scikit_learn(classes: int) -> None:
    """Fit and scores of train, ID test and OOD features, streamed, against all of them in memory.

    The authors of NECO take a PCA of all components. One of d components saves scikit-learn a large
    product, and in single precision its other one takes half the time of ours in double precision:
    that ratio is reported only.
    """
    torch.set_num_threads(THREADS)
    parts = features(classes)
    single, double = ([part.numpy().astype(kind) for part in parts] for kind in ("f4", "f8"))
    d = classes - 1
    exact, ours = in_memory(double, d, None), streamed(parts, d)
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert abs(detection(*ours[1:]).auroc - detection(*exact[1:]).auroc) <= 1e-6
    ways = [
        ("PCA()", single, None),
        ("PCA()", double, None),
        ("PCA(d)", single, d),
        ("PCA(d)", double, d),
    ]
    with threadpool_limits(THREADS):
        ours_took, *theirs = seconds(
            lambda: streamed(parts, d),
            *(partial(in_memory, own, d, components) for _, own, components in ways),
            repetitions=7,
        )
    ratios = [time / ours_took for time in theirs]
    listed = ", ".join(
        f"{ratio:.2f}x {name} in {known[0].dtype}"
        for ratio, (name, known, _) in zip(ratios, ways, strict=True)
    )
    print(f"\nNECO, {classes} classes, {ours_took:.2f} s, against scikit-learn: {listed} (goal 1x)")
    meet(min(ratios[:2]) >= 1)
    if not timing.TRIAL and min(ratios) < 1:
        pytest.xfail(f"{min(ratios):.2f}x scikit-learn's fastest way")

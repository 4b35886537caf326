"""Effective depth and OOD generalisation drop of a network, from the probes of all its layers."""

from collections.abc import Callable

import torch

from rankdeficit.diagnostics.measures.depth import SHARE, bootstrap, effective_depth, ood_drop
from rankdeficit.diagnostics.measures.layer_probes import LayerProbes, ood_probes_of, probes_of
from rankdeficit.diagnostics.registry import Blank, Measure, Row, Values, measure
from rankdeficit.diagnostics.report import records
from rankdeficit.diagnostics.report.sentences import near_chance
from rankdeficit.diagnostics.study import Study


@measure("effective_depth", place=50)
class EffectiveDepth(Measure):
    """Effective depth kappa: share of the layers up to the first as accurate as the last."""

    requires = ("probes",)
    blank = Blank(sections={"effective_depth": None})

    def values(self, study: Study) -> Values:
        """kappa with its bootstrap interval."""
        fitted = probes_of(study)
        found = None if fitted is None else with_interval(fitted, effective_depth)
        return Values(sections={"effective_depth": found})

    def sentences(self, record: Row) -> list[str]:
        """Effective depth, the layer it points to, and why it may mislead."""
        found, layers = record.get("effective_depth"), record["layers"]
        accuracies = records.probe_accuracies(record)
        if not found or not accuracies:
            return []
        number, last = round(found["value"] * len(layers)), accuracies[-1]
        first = (
            f'layer {number} of {len(layers)}, "{layers[number - 1]["name"]}", is the first whose '
            f"linear probe reaches {SHARE:.0%} of the last layer's accuracy ({last:.1%})"
        )
        text = f"Effective depth kappa = {found['value']:.3g} ({_interval(found)}): {first}."
        chance = records.chance(record)
        if near_chance(last, chance, record["test"]["samples"]):
            text += (
                f" It says little: the last layer's probe hardly beats guessing ({chance:.1%}), which "
                "every layer's probe can do."
            )
        elif last < SHARE * max(accuracies):
            best = accuracies.index(max(accuracies))
            exact = torch.tensor(accuracies, dtype=torch.float64)
            text += (
                f' The last layer\'s probe is not the best: that of "{layers[best]["name"]}" reaches '
                f"{accuracies[best]:.1%}, so kappa is measured against a low bar. Against the best "
                f"layer's accuracy it is {float(effective_depth(exact, bar='best')):.3g}."
            )
        return [text]


@measure("ood_drop", place=60)
class OodDrop(Measure):
    """OOD drop rho: share of the best layer's OOD probe accuracy that the last layer loses."""

    requires = ("ood_probes",)
    blank = Blank(sections={"ood_drop": {}})

    def values(self, study: Study) -> Values:
        """rho with its bootstrap interval, by data set."""
        drops = {
            name: with_interval(fitted, ood_drop) for name, fitted in ood_probes_of(study).items()
        }
        return Values(sections={"ood_drop": drops})

    def sentences(self, record: Row) -> list[str]:
        """OOD drop per data set."""
        lines = []
        for name, found in sorted((record.get("ood_drop") or {}).items()):
            probed = {
                layer["name"]: layer["ood_probes"][name]["accuracy"]
                for layer in record["layers"]
                if name in (layer.get("ood_probes") or {})
            }
            text = f"{name}: OOD drop rho = {found['value']:.3g} ({_interval(found)})"
            if probed:
                best, last = max(probed, key=probed.__getitem__), list(probed.values())[-1]
                text += (
                    f"; a linear probe for its labels reaches {last:.1%} on the last layer and "
                    f'{probed[best]:.1%} on the best one, "{best}"'
                )
                chance = records.ood_chance(record, name)
                if chance is not None and near_chance(
                    probed[best], chance, record["ood"][name]["samples"]
                ):
                    text += (
                        f". It says little: the best layer's probe hardly beats guessing "
                        f"({chance:.1%}), so there is nothing to lose"
                    )
            lines.append(text + ".")
        return lines


def with_interval(fitted: LayerProbes, statistic: Callable[[torch.Tensor], torch.Tensor]) -> Row:
    """A statistic of the layers' accuracies with its bootstrap interval over test samples."""
    settings = fitted.settings
    found = bootstrap(
        fitted.correct,
        statistic,
        resamples=settings.resamples,
        level=settings.level,
        seed=fitted.seed,
    )
    return {
        "value": found.estimate,
        "interval": [found.low, found.high],
        "level": settings.level,
        "resamples": settings.resamples,
    }


def _interval(found: Row) -> str:
    low, high = found["interval"]
    return f"{found['level']:.0%} interval {low:.3g}-{high:.3g}"

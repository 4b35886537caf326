"""OrthoDev: how orthogonal the mean OOD feature is to the class means (equation 4 of the paper)."""

from jaxtyping import Float
from rich.table import Table
from torch import Tensor

from rankdeficit.checks import check_floating
from rankdeficit.diagnostics.reading.needs import Needs, Rows
from rankdeficit.diagnostics.reading.streams import CLASSES
from rankdeficit.diagnostics.registry import Blank, Column, Measure, Row, Values, measure
from rankdeficit.diagnostics.report.cells import make_table, number
from rankdeficit.diagnostics.study import Study


def ortho_dev(
    class_means: Float[Tensor, "classes features"], ood_mean: Float[Tensor, " features"]
) -> float:
    """OrthoDev: mean over classes of |cos(mu_c, mu_OOD)|, 0 where OOD data is orthogonal to the classes.

    mu_c: mean penultimate feature of an ID class (not centred); mu_OOD: mean over all OOD samples
    (equation 4 of the paper). Raises ValueError where a mean is zero.
    """
    check_floating("class_means", class_means, dimensions=2)
    check_floating("ood_mean", ood_mean, dimensions=1)
    means, strange = class_means.double(), ood_mean.double()
    norms = means.norm(dim=1) * strange.norm()
    if not bool((norms > 0).all()):
        raise ValueError("a class mean or the OOD mean is zero; its direction is undefined")
    return float(((means @ strange) / norms).abs().mean())


@measure("ortho_dev", place=110)
class OrthoDev(Measure):
    """OrthoDev of every OOD data set: mean |cosine| of the class means and the OOD mean."""

    needs = Needs(train=(CLASSES,), ood=(Rows("penultimate"),))
    blank = Blank(sections={"ortho_dev": {}})

    def values(self, study: Study) -> Values:
        """By data set; None and a note where a mean is zero."""
        classes = study.train.state(CLASSES)
        seen = classes.counts > 0
        results: dict[str, float | None] = {}
        for name in study.ood:
            mean = study.penultimate(name).double().mean(dim=0)
            try:
                results[name] = ortho_dev(classes.means[seen], mean.to(seen.device))
            except ValueError as error:
                results[name] = None
                study.notes.append(f"no OrthoDev for {name}: {error}")
        return Values(sections={"ortho_dev": results})

    def tables(self, record: Row) -> list[Table]:
        """A row per OOD data set."""
        found = record.get("ortho_dev") or {}
        known = sorted(name for name, value in found.items() if value is not None)
        heading = "OrthoDev, mean |cosine| of\nclass means and OOD mean"
        columns = [
            Column("OOD data", lambda name: name),
            Column(heading, lambda name: number(found[name])),
        ]
        return [make_table("Orthogonality", columns, known)] if known else []

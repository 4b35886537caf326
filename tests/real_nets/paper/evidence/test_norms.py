"""The page on the norms of untrained networks has the numbers of its table."""

import csv
from collections import Counter

import numpy as np

from tests.conftest import ROOT

FOLDER = ROOT / "real_nets" / "results" / "norms"
PAGE = " ".join((FOLDER / "README.md").read_text().split())


def test_the_page_has_the_numbers_of_the_table() -> None:
    with (FOLDER / "norms.csv").open() as file:
        rows = list(csv.DictReader(file))
    norms = np.array([float(row["training"]) for row in rows])
    started = [row for row in rows if float(row["training"]) > 0]
    flags = Counter(row["flag"] for row in rows)
    libraries = Counter(row["library"] for row in rows)
    modes = np.array([float(row["evaluation"]) / float(row["training"]) for row in started])
    against = np.array([float(row["training"]) / float(row["predicted"]) for row in started])
    low, middle, high = np.percentile(norms, [5, 50, 95])
    hottest = min(started, key=lambda row: float(row["training"]))
    told = [
        f"{len(rows)} untrained networks of torchvision ({libraries['torchvision']},",
        f"the median is {middle:.3g}; 90 % of the networks lie between {low:.3g} and {high:.3g}",
        f"extremes are {norms.min():.3g} and {norms.max():.3g}",
        f"{flags['zero']} networks have a head of zeros",
        f"{flags['hot']} start hot",
        f"{flags['cold']} start cold",
        f"{hottest['name']} has a norm of {float(hottest['training']):.3g}, as the median network at "
        f"T = {middle / float(hottest['training']):.0f}",
        f"within a tenth in {int((abs(modes - 1) < 0.1).sum())} of the {len(started)} networks",
        f"less than a tenth of that in training mode in {int((modes < 0.1).sum())}, and more than ten "
        f"times as large in {int((modes > 10).sum())}",
        f"{np.median(against):.3g} times the prediction",
        "{:.3g} to {:.3g} times in 90 %".format(*np.percentile(against, [5, 95])),
        f"{against.min():.3g} to {against.max():.3g} times in all",
    ]
    for kind in ("LayerNorm", "BatchNorm2d"):
        own = [
            float(row["training"]) for row in started if row["normalised"].partition(",")[0] == kind
        ]
        told.append(f"{np.median(own):.3g} ({min(own):.3g} to {max(own):.3g})")
    for text in told:
        assert text in PAGE, text

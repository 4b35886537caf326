"""The glossary: definition and reading of each number of a report. The library's README includes it."""

from collections.abc import Iterable
from typing import NamedTuple

from rankdeficit.page import Column, Section, Table, TableCell


class Term(NamedTuple):
    """One line of the glossary."""

    name: str
    formula: str
    reading: str
    """Which end is good, or what each end means where that depends on the use."""
    source: str
    measures: tuple[str, ...]
    """Names of the measures of `diagnose` that give the number."""


TERMS = {
    "accuracy": Term(
        "accuracy",
        "share of samples whose largest logit is that of the label",
        "high is good; guessing reaches the share of the largest class",
        "standard",
        (),
    ),
    "rank": Term(
        "numerical rank (of the logits: SR in the paper's tables)",
        "number of sigma_i > gamma sigma_1; gamma = 1e-3 unless stated otherwise",
        "dimensions that matter at that threshold; compare the curve over gamma, never one value",
        "paper, section 2",
        ("logits", "layer_ranks", "penultimate"),
    ),
    "centred_rank": Term(
        "class-centred rank",
        "numerical rank of M with each sample's mean logit subtracted",
        "all that the softmax sees; at most c - 1",
        "Neural Collapse",
        ("logits",),
    ),
    "sample_centred_rank": Term(
        "sample-centred rank",
        "numerical rank of M with each logit's mean over samples subtracted",
        "directions that vary between samples",
        "principal component analysis",
        ("logits",),
    ),
    "covariance_rank": Term(
        "covariance rank",
        "number of eigenvalues of the sample covariance above gamma times the largest",
        "singular values above sqrt(gamma) sigma_1 of the sample-centred M, at most its numerical rank",
        "readings of the Tunnel Effect paper",
        ("logits",),
    ),
    "rank_sampling": Term(
        "rank over samples",
        "2.5 to 97.5 % of the ranks of bootstrap resamples of 64 groups of samples; those of single "
        "classes and with classes weighted equally are class-centred",
        "a rank that still grows with n is a lower bound; settled at n: it stays from n samples on",
        "Efron and Tibshirani, 1993",
        ("rank_sampling",),
    ),
    "post_softmax_rank": Term(
        "rank after the softmax",
        "numerical rank of softmax(M / T)",
        "can be c while the logits have rank 2",
        "paper, section 3",
        ("logits",),
    ),
    "stable_rank": Term(
        "stable rank",
        "sum sigma_i^2 / sigma_1^2",
        "dimensions by energy; needs no threshold",
        "Rudelson and Vershynin",
        ("logits",),
    ),
    "effective_rank": Term(
        "effective rank",
        "exp(H(sigma / sum sigma)), H the entropy",
        "dimensions by entropy; needs no threshold",
        "Roy and Vetterli",
        ("logits",),
    ),
    "logits_norm": Term(
        "logits norm",
        "norm(M) / sqrt(n); effective: divided by T",
        "an effective norm far below 1 at the start makes the network grow its logits first, which "
        "collapses the rank",
        "paper, section 3.1",
        ("logits",),
    ),
    "alignment": Term(
        "alignment",
        "per layer the largest abs(cosine) between the top 15 right singular vectors of W and the top 15 "
        "left ones of its input; mean over layers",
        "near 1: the layer reads the dominant directions; narrow layers have large values by chance, so "
        "compare it with that of random directions",
        "paper, Figure 3",
        ("alignment",),
    ),
    "gradient": Term(
        "gradient rank",
        "numerical rank of dL/dW; the exact one is at most that of the layer's input",
        "a collapsed layer gets gradients of low rank, by which the paper explains that it stays so",
        "paper, equation 3",
        ("gradient_ranks",),
    ),
    "attention": Term(
        "attention: spread, entropy, ranks",
        "per head: standard deviation of the logits over keys; entropy of softmax rows over ln(keys); "
        "numerical ranks of Q K^T / sqrt(d) and of the attention matrix",
        "entropy share 1: every query takes the mean of all keys; 0: one key. The logits have rank at "
        "most d, the attention matrix up to the number of keys",
        "Zhai et al. (entropy); Dong et al. (rank)",
        ("attention",),
    ),
    "probe": Term(
        "linear probe",
        "test accuracy of a converged logistic regression on a layer's features; tunnel and kanan are "
        "protocols of other authors",
        "what a layer has made linearly separable",
        "Alain and Bengio",
        ("probes", "ood_probes"),
    ),
    "effective_depth": Term(
        "effective depth κ (kappa)",
        "first layer whose probe reaches 99 % of the last one's, over the number of layers",
        "low: later layers add nothing and can be cut",
        "Tunnel Effect",
        ("effective_depth",),
    ),
    "ood_drop": Term(
        "OOD drop ρ (rho)",
        "(best layer's OOD probe - last layer's) / best",
        "0 is best: nothing useful to other data was lost",
        "Tunnel Effect",
        ("ood_drop",),
    ),
    "neco": Term(
        "NECO",
        "norm of a feature's projection on the top d principal directions over its own norm; variants "
        "differ, d stands beside it",
        "AUROC 0.5 is chance, 1 is perfect detection",
        "Ben Ammar et al.",
        ("detection",),
    ),
    "ortho_dev": Term(
        "OrthoDev",
        "mean over classes of abs(cos(class mean, mean OOD feature)), penultimate features, not centred",
        "0 is best: OOD data are orthogonal to the classes",
        "paper, equation 4",
        ("ortho_dev",),
    ),
    "auroc": Term(
        "AUROC, FPR, AUPR",
        "from ranks of the scores; FPR at 95 % true positives, with either class as positive",
        "AUROC and AUPR high, FPR low",
        "standard",
        ("detection",),
    ),
    "nc1": Term(
        "NC1",
        "tr(S_W S_B^+) / c in the retained directions, scatter within and between classes; beside it "
        "tr S_W / tr S_B, blind to the rank, and CDNV, the mean over pairs of classes of their variances "
        "over the squared distance of their means",
        "0: classes have collapsed to points",
        "Papyan et al.",
        ("neural_collapse",),
    ),
    "nc2": Term(
        "NC2",
        "std over mean of the class means' norms; std of their cosines; distance of the mean cosine from "
        "-1 / (c - 1)",
        "all 0: the means form a simplex ETF (the last alone is also 0 for a rank-2 circle)",
        "Papyan et al.",
        ("neural_collapse",),
    ),
    "nc3": Term(
        "NC3, NC4",
        "norm(W / norm(W) - M / norm(M)) of classifier rows and class means; share of samples whose "
        "prediction is the nearest class mean",
        "NC3 0 and NC4 1: collapse. All of NC presupposes a train accuracy near 1",
        "Papyan et al.",
        ("neural_collapse",),
    ),
    "calibration": Term(
        "calibration",
        "NLL, ECE and Brier score before and after temperature scaling, cross-fitted",
        "low is good; a fitted T above that of training means over-confidence",
        "Guo et al.",
        ("calibration", "reliability"),
    ),
    "smooth_ece": Term(
        "smooth ECE (smECE)",
        "integral of the absolute value of the residual (1 if correct, else 0, minus the confidence), "
        "smoothed over the confidence by a Gaussian kernel of width smECE",
        "0 is best; unlike ECE it needs no choice of bins",
        "Błasiok and Nakkiran",
        ("calibration",),
    ),
    "vector_scaling": Term(
        "vector scaling",
        "softmax(w z + b) with a weight and a bias per class, fitted by NLL and cross-fitted",
        "better than temperature scaling: classes are miscalibrated in different ways; worse: too few "
        "samples per class",
        "Guo et al.",
        ("calibration",),
    ),
}


WORDS = {
    "accuracy": ("train accuracy", "test accuracy"),
    "rank": ("rank of", "rank-2", "ranks"),
    "centred_rank": ("class-centred",),
    "sample_centred_rank": ("sample-centred",),
    "covariance_rank": ("covariance",),
    "rank_sampling": ("over samples",),
    "post_softmax_rank": ("after the softmax", "softmax("),
    "logits_norm": ("norm of the logits", "logits norm", "||M||", "initial norm"),
    "alignment": ("alignment",),
    "gradient": ("gradients",),
    "attention": ("Attention",),
    "probe": ("probe", "κ", "ρ"),
    "effective_depth": ("κ", "effective depth"),
    "ood_drop": ("ρ", "OOD drop"),
    "neco": ("NECO",),
    "ortho_dev": ("OrthoDev",),
    "auroc": ("AUROC", "FPR"),
    "nc1": ("NC1",),
    "nc2": ("NC2",),
    "nc3": ("NC3", "NC4"),
}
"""Words by which headings and row labels of tables name a term."""


def named_terms(tables: Iterable[Table]) -> list[Term]:
    """The terms that captions, headings or row labels of tables name, in the order of the glossary."""
    texts = [
        text
        for table in tables
        for text in (
            table.caption,
            *(part for column in table.columns for part in (column.group, column.title)),
            *(cell.text for row in table.rows for cell in row[: table.labels]),
        )
    ]
    return [
        TERMS[name]
        for name, words in WORDS.items()
        if any(word in text for word in words for text in texts)
    ]


def glossary_section(terms: Iterable[Term]) -> Section:
    """The section of a page that defines these terms and explains how to read them."""
    columns = [Column(text) for text in ("number", "formula", "read it as", "source")]
    rows = [[TableCell(text) for text in term[:4]] for term in terms]
    table = Table("How to read the numbers", columns, rows)
    headline = "the formula of each number, and which values are good."
    return Section("glossary", "Glossary", tables=[table], headline=headline)


def markdown_glossary() -> str:
    """The glossary as a table of Markdown."""
    lines = ["| measure | formula | read it as | source |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(term[:4])} |" for term in TERMS.values())])

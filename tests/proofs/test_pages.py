"""Pages of the claims: sources, kinds of checks and proofs, in Markdown and in the terminal."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from proofs import __main__ as program
from proofs import pages
from proofs.claims import Claim, load_claims
from tests.conftest import ROOT

FORMAL = (ROOT / "proofs" / "formal" / "README.md").read_text()
CLAIMS = {name: claim for name, claim in load_claims().items() if name != "formal"}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_each_page_names_its_checks_by_kind(claim: Claim) -> None:
    page = pages.page(claim.name)
    text = page.read_text()
    formal = re.findall(rf"^\| \[(\w+\.v)\].*\(\.\./{page.name}\)", FORMAL, re.M)
    kinds: dict[str, list[str]] = {}
    for check in claim.checks:
        kinds.setdefault(program.kind_of(check), []).append(f"`{check.name}`")
    if formal:
        kinds["formal"] = [f"[{name}](formal/{name})" for name in formal]
    _, table = text.split("| kind | checks |\n|---|---|\n")
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()]
    assert {kind: names.split(", ") for kind, names in rows} == kinds
    assert re.search(rf"^Source: .*\({page.stem}\.py\)", text, re.M)
    assert pages.proof_of(claim.name) == f"proofs/{page.name}"
    counts = [len(kinds.get(kind, [])) for kind in ("derivation", "steps", "cases", "sampled")]
    row = rf"^\| \[`{claim.name}`\]\({page.name}\) \| .* \| {' / '.join(map(str, counts))} \|$"
    assert re.search(row, (ROOT / "proofs" / "README.md").read_text(), re.M)


@pytest.mark.parametrize("claim", [*CLAIMS, "formal"])
def test_underscores_of_formulas_are_not_emphasis(claim: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(pages.explanation(claim))
    spans = [child for token in tokens for child in token.children or []]
    assert not [child for child in spans if child.type == "em_open" and child.markup == "_"]


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (r"\sqrt{n/m} \le \sigma_1(S)", "sqrt(n/m) <= sigma_1(S)"),
        (r"\frac{a + b}{c}\,x", "(a + b)/c x"),
        (r"\frac1{a^2}, \tfrac12", "1/a^2, 1/2"),
        (r"\frac{1}{cN} \sum_i x_i", "1/(cN) sum_i x_i"),
        (r"\|S\|_F^2 \ge \big[ e^{-z} \big]_+", "||S||_F^2 >= [e^{-z}]_+"),
        (r"\max_i \langle s_i, \rho\rangle", "max_i <s_i, rho>"),
        (r"\begin{pmatrix} a & 0 \\ b & B \end{pmatrix}.", "(a, 0; b, B)."),
        (r"\frac{\mu}{\gamma} (1 \pm x^2)", "mu/gamma (1 +- x^2)"),
        (r"\mathrm{KL}(q \,\|\, p)", "KL(q || p)"),
        (r"\sqrt N \qquad \text{for all } n \ne 2", "sqrt(N) for all n != 2"),
    ],
)
def test_formulas_as_plain_text(formula: str, text: str) -> None:
    assert pages.plain(formula) == text


@pytest.mark.parametrize("claim", CLAIMS)
def test_no_tex_is_left_in_an_explanation(claim: str) -> None:
    blocks = re.findall(r"```text\n(.*?)\n```", pages.explanation(claim), re.DOTALL)
    assert pages.page(claim).read_text().count("$$") == 2 * len(blocks)
    assert not [block for block in blocks if "\\" in block]


def test_a_page_without_a_proof_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    assert pages.proof_of("some-claim") is None
    page = tmp_path / "some_claim.md"
    for text in (
        "",
        "# Title\n\n**Statement.** True.\n\n## What is checked\n\nAll.\n",
        "## Proof\n\n",
    ):
        page.write_text(text)
        assert pages.proof_of("some-claim") is None
    page.write_text("# Title\n\n## Proof\n\nObvious.\n")
    assert pages.proof_of("some-claim") == "proofs/some_claim.md"


def test_explain_prints_the_page_and_the_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    program.run(program.Settings(claims=("small-scale",), explain=True))
    printed = capsys.readouterr().out
    words = ["sqrt(n/m) <= sigma_1(S) <= ||S||_F", "Courant and Fischer", "steps", "sampled"]
    places = [printed.index(word) for word in words]
    assert places == sorted(places)

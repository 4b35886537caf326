"""Command that checks the claims and prints each statement with its kind, method and result.

python -m proofs
python -m proofs proposition-3-1 --instances 10000
python -m proofs proposition-3-1 --explain
python -m proofs formal
"""

import difflib
import importlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.markup import escape
from rich.table import Table

from proofs.claims import Check, Claim, Result, load_claims, run_check
from proofs.formal import CLAIM as FORMAL_CLAIM
from proofs.formal import why_missing
from proofs.pages import explanation
from rankdeficit.checks import check_at_least, check_output_file, check_seeds
from rankdeficit.experiments import cli, tables
from rankdeficit.experiments.options import Unused
from rankdeficit.experiments.runs import write_json

PROGRAM = "proofs"

FORMAL = FORMAL_CLAIM.name


@dataclass(frozen=True)
class Settings:
    """Check the claims of this project. The exit status is 1 if a statement is refuted or open."""

    claims: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Names of the claims to check [default: all]."""
    explain: bool = False
    """Print the pages of the claims, with statements and proofs, and check nothing."""
    instances: int | None = None
    """Number of random instances per sampled check [default: set by each check]."""
    seed: int = 0
    """Seed of the random instances."""
    out: Path | None = None
    """Also write the results to this JSON file; its folder is made where there is none."""

    def unused(self) -> Unused:
        """Options of checks, with `explain`."""
        reason = "with --explain, which checks nothing; leave that out"
        return dict.fromkeys(("instances", "seed", "out"), reason) if self.explain else {}


def run(settings: Settings) -> None:
    """Check the claims and print the table. Exits with status 1 if a statement is refuted or open."""
    if settings.explain:
        explain(settings.claims)
        return
    claims = choose(settings)
    results = check(claims, settings)
    if settings.out is not None:
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(settings.out, [asdict(result) for result in results])
    failures = [result for result in results if result.verdict in ("refuted", "open")]
    sentences = [f"{f.claim}, {f.verdict}: {f.statement}. Witness: {f.witness}" for f in failures]
    sentences += assumed(results)
    if not settings.claims and (reason := why_missing()):
        sentences.append(f"Formal proofs were left out: {reason}.")
    tables.print_report(table(results), [*sentences, totals(results)])
    if failures:
        sys.exit(1)


def explain(names: Sequence[str]) -> None:
    """Print the page of each claim, and its statements with their kinds."""
    if not names:
        raise ValueError("--explain needs the names of claims; --help lists them")
    for claim in named(names, load_claims()):
        tables.print_page(explanation(claim.name))
        tables.print_report(kinds(claim), [])


def kinds(claim: Claim) -> Table:
    """Table with the kind of each statement of a claim."""
    table = Table(box=box.SIMPLE_HEAVY)
    for name in ("statement", "kind", "method"):
        table.add_column(name, overflow="fold")
    for check in claim.checks:
        table.add_row(escape(check.statement), kind_of(check), check.method)
    return table


def kind_of(check: Check | Result) -> str:
    """Kind as it is printed: "steps" for a derivation that does not cover its statement."""
    return "steps" if check.kind == "derivation" and not check.covers else check.kind


def assumed(results: list[Result]) -> list[str]:
    """What formal proofs assume, a sentence for each set of axioms."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for r in results:
        if r.kind == "formal" and r.verdict == "proved":
            groups.setdefault(r.assumes, []).append(r.statement.partition(":")[0])
    return [
        f"Assumed by {'; '.join(names)}: {', '.join(axioms) or 'no axiom'}."
        for axioms, names in groups.items()
    ]


def totals(results: list[Result]) -> str:
    """Numbers of statements by kind of check and result, in one sentence."""
    good = Counter(kind_of(result) for result in results if result.verdict in ("proved", "held"))
    claims = len({result.claim for result in results})
    return (
        f"{tables.counted(len(results), 'statement')} in {tables.counted(claims, 'claim')}: "
        f"{good['derivation']} proved by derivation, {good['formal']} by Coq; "
        f"{good['cases']} held in all cases named, {good['sampled']} on all instances sampled, "
        f"{good['steps']} in the steps checked; {len(results) - good.total()} refuted or open."
    )


def choose(settings: Settings) -> list[Claim]:
    """The named claims, or all of them. Raises ValueError for unknown names and bad settings."""
    check_seeds(settings.seed, 1)
    if settings.instances is not None:
        check_at_least(1, instances=settings.instances)
    if settings.out is not None:
        check_output_file("--out", settings.out)
    known = load_claims()
    claims = named(settings.claims or tuple(known), known)
    reason = why_missing()
    if reason is not None and FORMAL in settings.claims:
        raise ValueError(reason)
    return [claim for claim in claims if claim.name != FORMAL or reason is None]


def named(names: Sequence[str], known: Mapping[str, Claim]) -> list[Claim]:
    """The claims with these names, each once. Raises ValueError for unknown names."""
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            advice = f"the closest are {', '.join(close)}; " if close else ""
            raise ValueError(f"unknown claim {name!r}; {advice}--help lists all claims")
    return [known[name] for name in dict.fromkeys(names)]


def check(claims: list[Claim], settings: Settings) -> list[Result]:
    """Run all checks in order and show the progress."""
    checks = [check for claim in claims for check in claim.checks]
    sizes = [(settings.instances or c.instances) if c.instances else 1 for c in checks]
    starts = [0, *accumulate(sizes)]
    results = []
    with cli.progress("proofs", starts[-1], "instances") as show:
        for one, size, start in zip(checks, sizes, starts, strict=False):

            def seen(count: int, size: int = size, start: int = start) -> None:
                show(start + min(count, size))

            results.append(run_check(one, settings.instances, settings.seed, seen))
    return results


def table(results: list[Result]) -> Table:
    """Table with one row per check."""
    table = Table(
        box=box.SIMPLE_HEAVY,
        caption="derivation: symbolic, for all sizes. steps: a part of a derivation. cases: all cases of "
        "the range in the statement. sampled: random instances, each certified. formal: checked by Coq. "
        "What held has a general proof on the claim's page (--explain), unless the result says "
        "otherwise. Worst slack: smallest margin of an inequality (- for other statements).",
        caption_justify="left",
    )
    for name in ("claim", "statement", "kind", "method"):
        table.add_column(name, overflow="fold")
    table.add_column("instances", justify="right")
    table.add_column("worst slack", justify="right")
    table.add_column("result")
    previous = ""
    for r in results:
        slack = "-" if r.worst_slack is None else f"{r.worst_slack:.1e}"
        name = r.claim if r.claim != previous else ""
        table.add_row(
            name,
            escape(r.statement),
            kind_of(r),
            r.method,
            f"{r.instances:,}",
            slack,
            r.verdict + (", no general proof" if r.verdict == "held" and r.proof is None else ""),
        )
        previous = r.claim
    return table


def listing() -> str:
    """The claims, a line each, with the first sentence of their modules."""
    claims = load_claims()
    width = max(map(len, claims))
    modules = [importlib.import_module(f"proofs.{name.replace('-', '_')}") for name in claims]
    lines = [(module.__doc__ or "").splitlines()[0] for module in modules]
    rows = [f"  {name:{width}}  {line}" for name, line in zip(claims, lines, strict=True)]
    return "\n".join(["Claims:", *rows])


if __name__ == "__main__":
    cli.main(Settings, run, PROGRAM, details=listing())

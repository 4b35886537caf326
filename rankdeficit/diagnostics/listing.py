"""The table of all measures in README.md, and the glossary in the library's.

`python -m rankdeficit.diagnostics.listing` rewrites both.
"""

from pathlib import Path

from rankdeficit.diagnostics.reading.needs import Need, Rows, Stream
from rankdeficit.diagnostics.registry import Measure, all_measures
from rankdeficit.diagnostics.report.glossary import markdown_glossary

README = Path(__file__).parent / "README.md"
LIBRARY = README.parents[1] / "README.md"


def markdown_table() -> str:
    """Name, help and needs of every measure."""
    lines = ["| measure | what it is | needs |", "|---|---|---|"]
    lines += [f"| `{own.name}` | {_cell(own.help)} | {_needs(own)} |" for own in all_measures()]
    return "\n".join(lines)


def write(path: Path, mark: str, table: str) -> None:
    """Replace the table between the marks of this name."""
    start, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, rest = path.read_text(encoding="utf-8").split(start)
    after = rest.split(end)[1]
    path.write_text(f"{before}{start}\n{table}\n{end}{after}", encoding="utf-8")


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _needs(own: Measure) -> str:
    sets = {
        "train": own.needs.train,
        "test": own.needs.test,
        "ood": own.needs.ood,
        "ood pair": own.needs.ood_pair,
    }
    by_need: dict[str, list[str]] = {}
    for data, needs in sets.items():
        for need in needs:
            by_need.setdefault(_spell(need), []).append(data)
    told = [f"{need} ({', '.join(data)})" for need, data in by_need.items()]
    return "; ".join([*(f"`{name}`" for name in own.requires), *told])


def _spell(need: Need) -> str:
    if isinstance(need, Stream):
        return f"state of {need.of}"
    return f"kept {need.of}" if isinstance(need, Rows) else "some inputs"


if __name__ == "__main__":
    write(README, "measures", markdown_table())
    write(LIBRARY, "glossary", markdown_glossary())

"""Pages: the Markdown file beside each claim, with its statement and a proof for readers.

`explanation` is the page for a terminal, its formulas in the plain notation of the docstrings.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import proofs

FOLDER = Path(proofs.__file__).parent
CHECKS = "What is checked"
"""Title of the section of a page that is no part of the proof."""

SYMBOLS = {
    "le": "<=", "ge": ">=", "ne": "!=", "langle": "<", "rangle": ">", "ell": "l", "varphi": "phi",
    "top": "T", "dots": "...", "cdots": "...", "nabla": "grad", "lfloor": "floor(", "rfloor": ")",
    "lceil": "ceil(", "rceil": ")", "cap": "within", "quad": "  ", "qquad": "   ", "big": "", "Big": "",
    "pm": "+-", "to": "->", "|": "||", ",": " ", ";": " ", "\\": ";",
}  # fmt: skip
"""TeX commands that are not written by their names."""
GREEK = {"alpha", "beta", "gamma", "eta", "kappa", "mu", "pi", "rho", "sigma", "tau"}


def page(claim: str) -> Path:
    """Page of a claim."""
    return FOLDER / ("formal/README.md" if claim == "formal" else f"{claim.replace('-', '_')}.md")


def proof_of(claim: str) -> str | None:
    """Page of a claim, relative to the repository; None if it has no section with a proof."""
    path = page(claim)
    if not path.is_file():
        return None
    _, *sections = re.split(r"^## (.*)$", path.read_text(), flags=re.MULTILINE)
    proofs_found = [
        text for title, text in zip(sections[::2], sections[1::2], strict=True) if title != CHECKS
    ]
    return f"proofs/{path.relative_to(FOLDER)}" if any(map(str.strip, proofs_found)) else None


def explanation(claim: str) -> str:
    """Page of a claim in Markdown, with displayed formulas as plain text in code blocks."""
    text = page(claim).read_text()
    return re.sub(
        r"\$\$(.*?)\$\$",
        lambda formula: f"```text\n{plain(formula[1])}\n```",
        text,
        flags=re.DOTALL,
    )


def plain(formula: str) -> str:
    r"""A TeX formula as plain text: `\frac{a + b}{c}` is (a + b)/c, `\sqrt{x}` is sqrt(x)."""
    formula = re.sub(r"(?<=\w)(?=\\[a-zA-Z])(?!\\rangle)", " ", formula)
    tokens = re.findall(r"\\(?:l(?:angle|floor|ceil)\s*|[a-zA-Z]+|.)|\s+|.", formula, re.DOTALL)
    text = " ".join("".join(_parts(iter(tokens))).split())
    return re.sub(r"(?<=[(\[]) | (?=[)\]}])| (?=[,;.](?: |$))", "", text)


def _parts(tokens: Iterator[str]) -> Iterator[str]:
    """Plain text of the tokens up to the brace that closes their group."""
    for token in tokens:
        if token == "}":
            return
        name = token[1:].strip()
        if token == "{":
            yield "{" + "".join(_parts(tokens)) + "}"
        elif token == "&":
            yield ","
        elif token[0] != "\\":
            yield token
        elif name in ("frac", "tfrac"):
            above, below = _factor(_argument(tokens)), _factor(_argument(tokens))
            product = re.fullmatch("[a-zA-Z]{2,}", below) and below not in GREEK
            yield f"{above}/{f'({below})' if product else below} "
        elif name == "sqrt":
            yield f"sqrt({_argument(tokens)})"
        elif name in ("mathrm", "operatorname", "mathbb", "text"):
            yield _argument(tokens)
        elif name in ("begin", "end"):
            _argument(tokens)
            yield "(" if name == "begin" else ")"
        else:
            yield SYMBOLS.get(name, name)


def _argument(tokens: Iterator[str]) -> str:
    """Plain text of the next group or token."""
    token = next(token for token in tokens if not token.isspace())
    if token == "{":
        return "".join(_parts(tokens)).strip()
    return "".join(_parts(iter([token])))


def _factor(text: str) -> str:
    """The text in parentheses, unless it is one word."""
    return text if re.fullmatch(r"[\w.^{}()|']+|\|\|[^ ]*\|\|[^ ]*", text) else f"({text})"

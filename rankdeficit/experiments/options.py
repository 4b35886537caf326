"""The command line of a settings dataclass: parsing, help, and one-line errors.

Every field is an option. The text below a field is its help, or what the function `help` in its metadata
returns, for texts that depend on what is registered. Where the text ends with "[default: ...]", as for a
default that depends on other options, that is shown as the default.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import MISSING, Field, field, fields, make_dataclass
from io import StringIO
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NoReturn,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import tyro

T = TypeVar("T")
NAMES = {float: "FLOAT", int: "INT", str: "TEXT", Path: "PATH", bool: "{True,False}"}


def fail(program: str, message: str) -> NoReturn:
    """One line on stderr, exit status 2."""
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def parse(settings_type: type[T], arguments: list[str], program: str, details: str = "") -> T:
    """Settings from command-line arguments. A bad argument is one line on stderr and exit status 2.

    details: follows the description of the settings in the help.
    """
    if again := _given_again(settings_type, arguments):
        fail(program, f"--{again} is given several times; give it once, with all its values")
    message = StringIO()
    description = f"{inspect.getdoc(settings_type) or ''}\n\n{details}".strip()
    try:
        with redirect_stderr(message):
            parsed = tyro.cli(
                _as_options(settings_type),
                prog=f"python -m {program}",
                args=arguments,
                description=description,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [line.strip("│╭╮╰╯─ ") for line in message.getvalue().splitlines()]
        first = " ".join(lines[1 : lines.index("", 1)])  # a blank line or a rule follows it
        fail(program, f"{first} (--help lists the options)")
    return settings_type(**vars(parsed))


def option(name: str) -> str:
    """The option of a field."""
    return "--" + name.replace("_", "-")


Unused = dict[str, str]
"""Fields that have no effect given the others, each with the words that follow "has no effect"."""


def given_fields(arguments: Sequence[str]) -> set[str]:
    """Names of the fields that options on a command line set; `--no-bias` sets `bias`."""
    names = {a[2:].partition("=")[0].replace("-", "_") for a in arguments if a[:2] == "--"}
    return names | {name.removeprefix("no_") for name in names}


def refuse_unused(settings: object, arguments: Sequence[str]) -> None:
    """Raise ValueError for a command-line option that has no effect given the others.

    Settings with such options have a method `unused`, which returns `Unused`.
    """
    unused: Unused = getattr(settings, "unused", dict)()
    given = given_fields(arguments)
    for name, reason in unused.items():
        if name in given:
            raise ValueError(f"{option(name)} has no effect {reason}, or leave it out")


def parse_pairs(option: str, pairs: Sequence[str]) -> dict[str, str]:
    """A dict of NAME=VALUE pairs. Raises ValueError for other strings."""
    for pair in pairs:
        if not all(pair.partition("=")):
            raise ValueError(f"{option} is {pair!r}; it must be of the form NAME=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


def documentation(kind: type[Any]) -> dict[str, str]:
    """The text below each field of a dataclass, or of the nearest base that has one for it."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if "__dataclass_fields__" not in vars(base):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for line, following in zip(definition.body, definition.body[1:], strict=False):
            match line, following:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = " ".join(text.split())
    return found


def _as_options(kind: type[Any]) -> type[Any]:
    """A dataclass of the same fields, each with the placeholder, help and default that --help shows."""
    hints, texts = get_type_hints(kind, include_extras=True), documentation(kind)
    columns = []
    for own in fields(kind):
        made = own.metadata.get("help")
        text, default = _help(own, made() if made else texts.get(own.name, ""))
        flag = get_type_hints(kind)[own.name] is bool
        word = None if flag else _placeholder(own.name, hints[own.name])
        shown = tyro.conf.arg(metavar=word, help=text, help_behavior_hint=default)
        value = (
            field(kw_only=True)
            if own.default is MISSING
            else field(default=own.default, kw_only=True)
        )
        columns.append((own.name, Annotated[hints[own.name], shown], value))
    return make_dataclass(kind.__name__, columns, frozen=True)


def _help(own: "Field[Any]", text: str) -> tuple[str, str]:
    """The help of a field without its default, and the default in brackets."""
    match = re.fullmatch(r"(.*?)\s*\[default: (.*)\]\.?", text)
    if match:
        return f"{match[1].removesuffix('.')}.", f"(default: {match[2]})"
    if own.default is MISSING:
        return text, "(required)"
    if own.default is None or own.default == ():
        return text, ""
    if isinstance(own.default, bool):
        return text, f"(default: {'yes' if own.default else 'no'})"
    values = own.default if isinstance(own.default, tuple) else (own.default,)
    spelled = " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
    return text, f"(default: {spelled})"


def _placeholder(name: str, hint: Any) -> str:
    """The placeholder for an option's value in the help."""
    kinds = get_args(hint)
    if get_origin(hint) is Annotated:
        word = _placeholder(name, kinds[0])
        positional = tyro.conf.Positional in kinds[1:]
        named = f"[{name.upper()} ...]" if word.endswith("...") else name.upper()
        return named if positional else word
    if get_origin(hint) in (UnionType, Union):
        return "|".join(_placeholder(name, kind) for kind in kinds if kind is not NoneType)
    if get_origin(hint) is tuple:
        each = _placeholder(name, kinds[0])
        return f"{each} ..." if kinds[1:] == (...,) else " ".join([each] * len(kinds))
    if get_origin(hint) is Literal:
        return "{" + ",".join(map(str, kinds)) + "}"
    return NAMES[hint]


def _given_again(settings_type: type[Any], arguments: list[str]) -> str | None:
    """An option of several values that is given twice, so that the first values would be lost."""
    kinds = get_type_hints(settings_type)
    several = {name.replace("_", "-") for name, kind in kinds.items() if get_origin(kind) is tuple}
    given = Counter(a[2:].partition("=")[0].replace("_", "-") for a in arguments if a[:2] == "--")
    return next((name for name, times in given.items() if times > 1 and name in several), None)

"""Parts of messages: whatever a file or an error says, it is short, printable and on one line."""

import difflib
import json
import re
import reprlib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


class UserError(ValueError):
    """A fault of a file, a folder or a command line; the message names the place and the way out.

    Commands print it as one line and end with status 2.
    """


def one_line(text: object, limit: int = 300) -> str:
    """A text on one line, without control characters.

    Args:
        text: anything; of an error its message, or its class where it has none.
        limit: characters; of a longer text the beginning, with dots.
    """
    words = "".join(c if c.isprintable() else " " for c in str(text)).split()
    line = " ".join(words) or (type(text).__name__ if isinstance(text, BaseException) else "")
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def inert(value: object) -> object:
    """A value for a CSV file, of which a spreadsheet computes nothing.

    Text that would be a formula there gets an apostrophe before it; a number stays as it is.
    """
    if not isinstance(value, str) or value[:1] not in tuple("=+-@\t\r"):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def described(error: BaseException) -> str:
    """An error's class and message on one line."""
    return f"{type(error).__name__}: {one_line(str(error), 1000)}"


def no_folder(path: Path) -> str:
    """What is wrong with a path that is not a folder's."""
    return f"{path} is not a folder" if path.exists() else f"{path}: there is no such folder"


def counted(count: int, noun: str) -> str:
    """A count with its noun, such as "1 cell" and "2,000 cells"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def figure(value: float, digits: int = 2, sign: str = "") -> str:
    """A number of so many significant digits, never with an exponent."""
    return f"{Decimal(f'{value:.{digits}g}'):{sign},f}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def shown(value: object) -> str:
    """A value as it may stand in a message: at most 80 characters, whatever it is."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a number of very many digits"
    return one_line(text, 80)


def fault(error: ValidationError) -> str:
    """The first fault of a validation: its place, the reason, and the value that was given."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"])) or "the file"
    reason = first["msg"] if first["type"] == "missing" else explained(first)
    return one_line(f"{place}: {reason}", 600)


def explained(fault: Any) -> str:
    """One of pydantic's faults: the reason, the value that was given, and what to write instead."""
    message, given = fault["msg"].removeprefix("Value error, "), fault["input"]
    message = message.replace("valid tuple", "valid list")  # as YAML calls it
    got = "" if shown(given) in message else f", got {shown(given)}"
    hint = ""
    if fault["type"] == "literal_error":
        near = nearest(str(given), re.findall("'([^']*)'", fault["ctx"]["expected"]))
        hint = f", did you mean {near!r}?" if near else ""
    elif fault["type"] in ("list_type", "tuple_type") and "conv_layers" in fault["loc"]:
        hint = ", write [[filters, kernel, stride], ...]"
    elif fault["type"] in ("list_type", "tuple_type") and _is_one_item(given):
        hint = f", write [{given}]"
    return f"{message}{got}{hint}"


def _is_one_item(value: object) -> bool:
    """Whether a value is a number or a word, short enough to be shown within brackets."""
    if isinstance(value, str):
        return value.isprintable() and 0 < len(value) <= 80
    return type(value) is int and abs(value) < 10**9


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like a name, in upper or lower case; None if none is."""
    by_lower = {one.lower(): one for one in sorted(known, reverse=True)}
    matches = difflib.get_close_matches(name[:80].lower(), by_lower, n=1)
    return by_lower[matches[0]] if matches else None


def parsed(text: str) -> Any:
    """Returns the content of a JSON file whose texts can all be written again.

    Raises:
        ValueError: it is no JSON; or a text in it has half of a character, and its place is named.
    """
    content = json.loads(text)
    if "\\ud" in text.lower():  # what escapes alone can write
        _check_texts(content, "")
    return content


def _check_texts(content: Any, place: str) -> None:
    if isinstance(content, str):
        try:
            content.encode()
        except UnicodeEncodeError:
            where = one_line(place.lstrip(".") or "the file", 200)
            raise ValueError(f"{where}: {shown(content)} has half of a character") from None
    items: Iterable[Any] = ()
    if isinstance(content, dict):
        for key in content:
            _check_texts(key, f"{place}, a key")
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    for key, value in items:
        _check_texts(value, f"{place}.{key}")


def unknown_name(name: str, known: Iterable[str], kind: str = "setting") -> str:
    """One sentence that refuses a name and offers the nearest one that exists."""
    known = sorted(known)
    near = nearest(name, known)
    choice = one_line(", ".join(known), 700)
    hint = f"did you mean {near!r}?" if near else f"choose from {choice}"
    return f"unknown {kind} {shown(name)}, {hint}"

"""Parts of messages: whatever a file or an error says, it is short, printable and on one line."""

import difflib
import json
import reprlib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


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
    """The first fault of a validation: its place, what is wrong, and what was given."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"])) or "the file"
    message = first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] == "missing" else f", got {shown(first['input'])}"
    return one_line(f"{place}: {message}{given}", 600)


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
    matches = difflib.get_close_matches(name[:80], known, n=1)
    choice = one_line(", ".join(known), 700)
    hint = f"did you mean {matches[0]!r}?" if matches else f"choose from {choice}"
    return f"unknown {kind} {shown(name)}, {hint}"

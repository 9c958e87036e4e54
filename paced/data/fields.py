"""What the fields of a row say: text, chat messages in any of their published forms, numbers, levels.

A value that is no text a person could read is an error that names its line. Imports no torch.
"""

import json
import math
import re
from decimal import Decimal
from typing import Any

from paced.errors import DataError

Fields = dict[str, Any]  # a row of somebody's file, or what lies in one: of the types that the format has
USERS = ("user", "human")  # who asks, in chat messages and in ShareGPT's turns
_LEVEL = re.compile(r"(?:level\s*)?(\d{1,9}|\?)", re.IGNORECASE)
_WORDS = re.compile(r"[^\W\d_][^\d]*")
_MESSAGES = re.compile(r"\s*\[\s*\{\s*(['\"])(?:role|content|from|value)\1\s*:")


def dig(row: Any, path: str) -> Any:
    """The value at a dotted path: of a column of that very name, or a step deeper, into JSON kept as text too.

    Raises:
        KeyError: a step of the path is not there.
    """
    if isinstance(row, str) and row.lstrip().startswith("{"):
        try:
            row = json.loads(row)
        except (ValueError, RecursionError):
            raise KeyError(path) from None
    if not isinstance(row, dict):
        raise KeyError(path)
    if path in row:
        return row[path]
    name, _, rest = path.partition(".")
    if not rest or name not in row:
        raise KeyError(path)
    return dig(row[name], rest)


def required(row: Fields, path: str, where: str) -> Any:
    """The value at a path that must be there.

    Raises:
        DataError: it is not.
    """
    try:
        return dig(row, path)
    except KeyError:
        raise DataError(f"{where}: field '{path}' is missing (it has: {', '.join(map(str, row))})") from None


def optional(row: Fields, path: str | None) -> Any:
    """The value at a path, None if there is none."""
    try:
        return dig(row, path) if path else None
    except KeyError:
        return None


def characters(found: str, path: str, where: str) -> str:
    """A text that can be written as UTF-8.

    Raises:
        DataError: it cannot.
    """
    try:
        found.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: field '{path}' holds half a surrogate pair, which is no character") from None
    return found


def messages(value: Any, path: str, where: str) -> list[Fields] | None:
    """Chat messages, of roles and content or in ShareGPT's turns, each with ``role`` and ``content``; else None.

    Raises:
        DataError: some of them are none, or they are written as Python and not as JSON.
    """
    if isinstance(value, str) and (written := _MESSAGES.match(value)):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            if written[1] == '"':
                return None
            raise DataError(f"{where}: field '{path}' holds chat messages as Python text: write them as JSON") from None
    if not (isinstance(value, list) and value and isinstance(value[0], dict) and {"role", "from"} & value[0].keys()):
        return None
    if not all(isinstance(m, dict) for m in value):
        raise DataError(f"{where}: field '{path}' holds chat messages, of which one has no fields")
    return [{"role": m.get("role", m.get("from")), "content": m.get("content", m.get("value"))} for m in value]


def said(value: Any, path: str, where: str) -> str:
    """What a field holds as text, stripped; '' for null. Chat messages stand for the user's last one.

    Raises:
        DataError: it is no text: fields of its own, bytes, an infinite number, an image.
    """
    if chat := messages(value, path, where):
        value = next((m["content"] for m in reversed(chat) if m["role"] in USERS), None)
    if isinstance(value, list):
        return _listed(value, path, where)
    if isinstance(value, dict):
        names = ", ".join(map(str, value))
        raise DataError(f"{where}: field '{path}' holds fields of its own ({names}): name one of them")
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise DataError(f"{where}: field '{path}' holds bytes that are no UTF-8 text: store it as text") from None
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        if math.isnan(value):
            return ""  # how tables say that there is nothing
        raise DataError(f"{where}: field '{path}' holds {value}, which is no number: correct or remove it")
    return characters("" if value is None else str(value).strip(), path, where)


def _listed(value: list[Any], path: str, where: str) -> str:
    """The items of a list, or the text of a message's parts."""
    if any(isinstance(part, dict) and "type" in part for part in value):
        parts = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in value]
        if others := sorted({str(part.get("type")) for part in parts if not isinstance(part.get("text"), str)}):
            kinds = ", ".join(others)
            raise DataError(f"{where}: field '{path}' has a part of type {kinds}, and only text is read: leave it out")
        return "\n".join(said(part["text"], path, where) for part in parts)
    if any(isinstance(item, list) for item in value):
        raise DataError(f"{where}: field '{path}' holds lists in a list: write it as text")
    return ", ".join(said(item, path, where) for item in value)


def text(row: Fields, path: str, where: str) -> str:
    """What the field at a path, which must be there, says."""
    return said(required(row, path, where), path, where)


def subject_of(row: Fields, path: str | None, where: str) -> str | None:
    """What the field at a path says, None if there is none."""
    value = optional(row, path)
    return None if value is None else said(value, str(path), where)


def level_of(value: Any, where: str, named: bool = False) -> int | None:
    """5 of 5, 5.0 or "Level 5"; None of null, of "Level ?" and, unless the recipe ``named`` the field, of words.

    Raises:
        DataError: it is none of these.
    """
    if value is None or (isinstance(value, float) and value != value) or not str(value).strip():
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    written = str(value).strip()
    found = _LEVEL.fullmatch(written)
    if not found and not isinstance(value, bool) and not named and _WORDS.fullmatch(written):
        return None  # "Easy": words have no order that could be known
    if isinstance(value, bool) or not found:
        raise DataError(f"{where}: level must be a whole number of at most 9 digits, got {written[:60]!r}")
    return None if found[1] == "?" else int(found[1])

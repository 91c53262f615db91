"""Request bodies: JSON to structs, with errors that name the field and the nearest known one."""

from __future__ import annotations

import difflib
import re
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from api.errors import InvalidBody, MalformedBody

T = TypeVar("T")

_UNKNOWN = re.compile(r"unknown field `(?P<name>.*?)`", re.DOTALL)
_PLACE = re.compile(r" - at `\$\.?(?P<path>.*?)`$", re.DOTALL)


def decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


def decode(reader: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as a struct. Raises MalformedBody where it is not JSON, InvalidBody where it is the wrong JSON."""
    try:
        return reader.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), reader.type) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedBody(f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise MalformedBody("the body is nested too deeply") from error


def _invalid(message: str, kind: Any) -> InvalidBody:
    found = _PLACE.search(message)
    path = found["path"] if found else ""
    if not (unknown := _UNKNOWN.search(message)):
        return InvalidBody(message, path or None)
    known = _fields_at(kind, path)
    close = difflib.get_close_matches(unknown["name"], known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    where = f"{path}.{unknown['name']}" if path else unknown["name"]
    return InvalidBody(f"unknown field {where!r}{hint} (known: {', '.join(known)})", where)


def _fields_at(kind: Any, path: str) -> list[str]:
    """Fields of the struct that a path such as ``documents[0]`` leads to."""
    for name in re.findall(r"(?:^|\.)(\w+)", path):
        kind = _struct_in(get_type_hints(kind).get(name)) or kind
    return sorted(kind.__struct_fields__)


def _struct_in(hint: Any) -> Any:
    """The first struct a type hint mentions, None where it mentions none."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint
    return next((found for part in get_args(hint) if (found := _struct_in(part))), None)

"""What a route asks of a key. It stands in the handler's ``opt``; a route that says nothing is for admins only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

Access = Literal["open", "metrics", "read", "write", "admin"]
"""open needs no key, the last three are scopes of keys.

metrics is read by keys of no tenant, or by everybody where the settings open it.
"""

ACCESS = "access"
OPEN: dict[str, Any] = {ACCESS: "open"}
METRICS: dict[str, Any] = {ACCESS: "metrics"}
READ: dict[str, Any] = {ACCESS: "read"}
WRITE: dict[str, Any] = {ACCESS: "write"}
ADMIN: dict[str, Any] = {ACCESS: "admin"}


def access_of(opt: Mapping[str, Any]) -> Access:
    named = opt.get(ACCESS, "admin")
    return cast(Access, named) if named in get_args(Access) else "admin"

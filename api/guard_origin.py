"""Which web pages may talk to a server that asks for no key.

A browser sends what any page tells it to, to loopback as well. So a page's requests count only where it is the
server's own or is named in the settings; and on loopback only under names that no stranger's DNS can give it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from api.errors import NotAllowed
from rag.config import ServerConfig

Headers = Iterable[tuple[bytes, bytes]]

_OWN = (".localhost", ".local", ".internal")


def header(headers: Headers, wanted: bytes) -> str:
    """The first header of that name, "" where there is none."""
    return next((value for name, value in headers if name == wanted), b"").decode("latin-1")


def check_origin(headers: Headers, chosen: ServerConfig) -> None:
    """Raises NotAllowed for a request of a page that may not make it, by its origin or by a name of this server."""
    check_page(headers, chosen)
    host = header(headers, b"host")
    if is_loopback(chosen.address) and not chosen.open and not _is_ours(host, chosen):
        raise NotAllowed(
            f"this server listens on {chosen.address} and is asked for as {host[:200]!r}, a name that may be "
            "anybody's; name it in [server] origins, or make keys: kvasir keys create"
        )


def check_page(headers: Headers, chosen: ServerConfig) -> None:
    """Raises NotAllowed for a request of a page of another origin that the settings do not name."""
    host, origin = header(headers, b"host"), header(headers, b"origin")
    if origin and not _is_allowed(origin, chosen) and _place(origin) != host.lower():
        raise NotAllowed(
            f"a page of {origin[:200]!r} may not call this server; name it in [server] origins to allow it"
        )


def is_loopback(host: str) -> bool:
    """True for addresses and names that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_allowed(origin: str, chosen: ServerConfig) -> bool:
    return "*" in chosen.origins or origin in chosen.origins


def _is_ours(host: str, chosen: ServerConfig) -> bool:
    """True for addresses, for names without a dot or of this network, and for those of the settings."""
    if not host:
        return True
    if not _parses(f"//{host}"):
        return False
    name = urlsplit(f"//{host}").hostname or ""
    if "." not in name and ":" not in name:
        return True
    if name.endswith(_OWN) or "*" in chosen.origins:
        return True
    if any(name == urlsplit(origin).hostname for origin in chosen.origins):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _place(origin: str) -> str:
    return urlsplit(origin).netloc.lower() if _parses(origin) else ""


def _parses(url: str) -> bool:
    try:
        return urlsplit(url).hostname is not None
    except ValueError:
        return False

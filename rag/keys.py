"""API keys: who may do what. The file holds hashes only, and is its owner's alone.

A secret is ``kv_<id>_<256 random bits>``. Guessing one is hopeless, so one round of SHA-256 keeps it: slow hashes are
for secrets that people think of.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, get_args

import msgspec
from filelock import FileLock, Timeout

from indexes.durable import space_needed, write_atomic
from indexes.errors import InvalidInput, KvasirError
from indexes.home import check_name

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Each may do what those before it may."""
ALL = "*"
FILE = "keys.json"
MAX_KEYS = 10_000

_SECRET = re.compile(r"kv_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_RATE = re.compile(r"(\d{1,9})/(s|min|h|day)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "day": 86_400}
_AGE = re.compile(r"(\d{1,6})([mhd])")
_AGES = {"m": "minutes", "h": "hours", "d": "days"}
_LOCK_SECONDS = 10


class KeysDamaged(KvasirError):
    """The file of the keys cannot be read: nobody gets in before it is mended."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` requests in ``seconds``; as many may come at once."""

    count: int
    seconds: int


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key allows.

    hash   SHA-256 of the whole secret in hex
    scope  the most it may do;  collections  which it may use, "*" for all of its tenant
    tenant whose collections, jobs and caches it sees; "" is the home directory itself
    rate   as in 60/min, "" for none;  concurrency  requests under way at once, 0 for any number
    created, expires  ISO 8601 in UTC; "" is never
    """

    id: str
    name: str
    hash: str
    scope: Scope
    collections: tuple[str, ...] = (ALL,)
    tenant: str = ""
    rate: str = ""
    concurrency: int = 0
    created: str = ""
    expires: str = ""

    def may(self, scope: Scope) -> bool:
        return SCOPES.index(self.scope) >= SCOPES.index(scope)

    def expired(self, now: datetime) -> bool:
        return bool(self.expires) and datetime.fromisoformat(self.expires) <= now


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal[1]
    keys: list[Key]


Stamp = tuple[int, int, int]


class KeyFile:
    """The keys of a home directory. Every change is one rename, so a crash leaves the keys before it or after it."""

    def __init__(self, home: Path) -> None:
        self.path = home.expanduser().absolute() / FILE

    def stamp(self) -> Stamp | None:
        """Changes with the file; None where there is none."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def read(self) -> list[Key]:
        """All keys, revoked ones gone; none where there is no file. Raises KeysDamaged."""
        try:
            keys = msgspec.json.decode(self.path.read_bytes(), type=_File).keys
            for key in keys:
                key.expired(datetime.now(UTC))
                parse_rate(key.rate)
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError, ValueError, TypeError) as error:
            raise KeysDamaged(
                f"{self.path} cannot be read as keys ({error}); mend it, or remove it and make keys"
            ) from error
        return keys

    def create(
        self,
        name: str,
        scope: Scope,
        *,
        collections: Sequence[str] = (ALL,),
        tenant: str = "",
        rate: str = "",
        concurrency: int = 0,
        expires: str = "",
    ) -> tuple[Key, str]:
        """A new key and its secret, which is nowhere else. Raises InvalidInput for values that are none."""
        now = datetime.now(UTC)
        key_id = secrets.token_hex(6)
        secret = f"kv_{key_id}_{secrets.token_urlsafe(32)}"
        key = Key(
            id=key_id,
            name=check_name(name, "key"),
            hash=digest(secret),
            scope=_scope(scope),
            collections=_collections(collections),
            tenant=check_name(tenant, "tenant") if tenant else "",
            rate=rate,
            concurrency=_concurrency(concurrency),
            created=now.isoformat(timespec="seconds"),
            expires=_expiry(expires, now),
        )
        parse_rate(rate)
        with self._changing() as keys:
            if any(other.name == name for other in keys):
                raise InvalidInput(f"there is a key {name!r}; choose another name, or revoke it: kvasir keys revoke")
            if len(keys) >= MAX_KEYS:
                raise InvalidInput(f"{len(keys)} keys; the limit is {MAX_KEYS}, revoke some")
            keys.append(key)
        return key, secret

    def revoke(self, which: str) -> Key:
        """Remove a key by id or name. Raises InvalidInput where there is none."""
        with self._changing() as keys:
            found = next((key for key in keys if which in (key.id, key.name)), None)
            if found is None:
                there = ", ".join(key.name for key in keys[:10]) or "none"
                raise InvalidInput(f"no key {which[:80]!r} (there: {there})")
            keys.remove(found)
        return found

    @contextmanager
    def _changing(self) -> Iterator[list[Key]]:
        """The keys, written back when the block ends well."""
        with space_needed(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{self.path}.lock", mode=0o600)
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            raise KeysDamaged(f"another process is writing to {self.path}; try again") from None
        try:
            keys = self.read()
            yield keys
            content = msgspec.json.encode(_File(version=1, keys=keys))
            write_atomic(self.path, msgspec.json.format(content, indent=1) + b"\n", private=True)
        finally:
            lock.release()


class Ring:
    """The keys as a server holds them, read again when the file changes.

    ``asked`` says whether requests need a key. It becomes true with the first file that is there and stays true: a
    file that vanishes or empties locks the doors, it does not open them.
    """

    def __init__(self, file: KeyFile) -> None:
        self.file = file
        self.asked = False
        self._keys: dict[str, Key] = {}
        self._stamp: Stamp | None = None
        self.trouble = ""

    def refresh(self) -> bool:
        """Look at the file; True where it was read anew. Never raises: a damaged file lets nobody in."""
        keys: list[Key] = []
        stamp: Stamp | None = None
        try:
            stamp = self.file.stamp()
            if stamp == self._stamp and not self.trouble:  # what could not be read is tried again
                return False
            keys, self.trouble = self.file.read(), ""
        except (KeysDamaged, OSError) as error:
            self.trouble, self.asked = str(error), True
        self._stamp = stamp
        self.asked = self.asked or stamp is not None
        self._keys = {key.id: key for key in keys}
        return True

    @property
    def ids(self) -> set[str]:
        return set(self._keys)

    def find(self, secret: str, now: datetime | None = None) -> Key | None:
        """The key of this secret, None for one that is unknown, revoked or expired; equally slow for all of them."""
        shape = _SECRET.fullmatch(secret)
        key = self._keys.get(shape[1]) if shape else None
        same = hmac.compare_digest(digest(secret), key.hash if key else _NOBODY)
        if key is None or not same or key.expired(now or datetime.now(UTC)):
            return None
        return key


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


_NOBODY = digest("")


def parse_rate(text: str) -> Rate | None:
    """``60/min`` as a Rate, "" as None. Raises InvalidInput."""
    if not text:
        return None
    found = _RATE.fullmatch(text)
    if not found or int(found[1]) < 1:
        raise InvalidInput(f"rate {text[:40]!r}; write a number and s, min, h or day, as in 60/min")
    return Rate(int(found[1]), _SECONDS[found[2]])


def _scope(scope: str) -> Scope:
    for known in SCOPES:
        if scope == known:
            return known
    raise InvalidInput(f"scope {scope[:40]!r}; take one of {', '.join(SCOPES)}")


def _collections(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        raise InvalidInput(f"no collection named; name some, or {ALL} for all of the tenant's")
    if ALL in names:
        return (ALL,)
    return tuple(sorted({check_name(name) for name in names}))


def _concurrency(count: int) -> int:
    if not 0 <= count <= 100_000:
        raise InvalidInput(f"concurrency {count}; it lies between 0 (any number) and 100000")
    return count


def _expiry(text: str, now: datetime) -> str:
    """``90d``, ``12h``, ``30m`` from now, or a date or time in ISO 8601, UTC where no offset stands."""
    if not text:
        return ""
    if age := _AGE.fullmatch(text):
        return (now + timedelta(**{_AGES[age[2]]: int(age[1])})).isoformat(timespec="seconds")
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"expires {text[:40]!r}; write 90d, 12h, 30m or a date as in 2030-12-31") from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    if when <= now:
        raise InvalidInput(f"expires {text[:40]!r} is past; name a time to come")
    return when.astimezone(UTC).isoformat(timespec="seconds")

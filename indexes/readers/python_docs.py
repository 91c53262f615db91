"""The running Python's standard library documentation: one document for every docstring of a public object.

Python source is parsed, never imported. Only modules written in C are imported, since their docstrings are
nowhere else. What a public module takes over from a private one (``io`` from ``_io``, ``collections.abc``
from ``_collections_abc``), or a package from its parts (``asyncio.run`` from ``asyncio.runners``), is
documented under that shorter name.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import platform
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Literal

from indexes.corpus import Document
from indexes.readers.source import Report, Skipped

Kind = Literal["module", "class", "function", "method"]

MIN_TEXT = 20
"""Shortest docstring kept, in code points; shorter ones only repeat the name."""

MAX_TITLE = 160

_UNREAD = re.compile(
    r"(^|\.)(tests?|idlelib|lib2to3|turtledemo|ensurepip|pydoc_data|antigravity|this|readline|__main__)(\.|$)"
)
_OTHER_PATHS = "ntpath" if os.path.__name__ == "posixpath" else "posixpath"
_PRIVATE = re.compile(rf"(^|\.)_|^(posix|nt|genericpath|{_OTHER_PATHS})$")
"""Also the modules that ``os`` and ``os.path`` take over, and the ``os.path`` of other systems."""

_SELF = re.compile(r"^\((?:self|cls|\$\w+)(?!\w)(?:, /)?(?:, )?")
_UNREADABLE = (ImportError, OSError, SyntaxError, ValueError)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A documented object. ``name`` is dotted below its module, "" for the module itself."""

    name: str
    kind: Kind
    signature: str
    doc: str


class PythonDocs:
    """Docstrings of modules, classes, functions and methods, ordered by id, each id once.

    id        ``json.dumps``, ``pathlib.Path.read_text``; what needs no import, without module: ``str.split``
    title     the signature: ``json.dumps(obj, *, skipkeys=False, ...)``, ``class pathlib.Path``
    metadata  ``module``, ``kind`` (module, class, function or method) and ``python``, its version
    """

    @property
    def name(self) -> str:
        return f"python-docs:{platform.python_version()}"

    def fingerprint(self) -> str:
        return hashlib.sha256(f"python-docs {sys.version} {sys.platform}".encode()).hexdigest()

    def count(self) -> int | None:
        """None: only reading tells."""
        return None

    def documents(self, skipped: Report) -> Iterator[Document]:
        library = _Library()
        found: dict[str, Document] = {}
        for module in library.public():
            try:
                entries = library.documented(module)
            except _UNREADABLE as error:
                skipped(Skipped(module, f"cannot be read ({type(error).__name__}: {error})"))
                continue
            for entry in entries:
                document = _document(module, entry)
                if len(document.text) >= MIN_TEXT:
                    found.setdefault(document.id, document)
        yield from (found[name] for name in sorted(found))


def _document(module: str, entry: _Entry) -> Document:
    module = "os.path" if module == os.path.__name__ else module
    prefix = "" if module == "builtins" else f"{module}."
    dotted = prefix + entry.name if entry.name else module
    title = f"{entry.kind} {dotted}" if entry.kind in ("module", "class") else dotted + entry.signature
    title = " ".join(title.split())
    if len(title) > MAX_TITLE:
        title = title[: MAX_TITLE - 6].rsplit(", ", 1)[0] + ", ...)"
    return Document(
        id=dotted,
        title=title,
        text=inspect.cleandoc(entry.doc),
        metadata={"module": module, "kind": entry.kind, "python": platform.python_version()},
    )


class _Library:
    """The standard library's modules and, once read, what each documents."""

    def __init__(self) -> None:
        self._sources = dict(_located())
        self._entries: dict[str, list[_Entry]] = {}
        self._exports: dict[str, frozenset[str]] = {}
        self._moved: set[str] = set()

    def public(self) -> list[str]:
        """The public modules, sorted. Those of other platforms are no part of this Python and not reported."""
        return sorted(name for name in self._sources if not _PRIVATE.search(name))

    def documented(self, module: str) -> list[_Entry]:
        """What to document under the module; its package comes first and keeps what it took over.

        Raises ImportError, OSError, SyntaxError or ValueError.
        """
        entries = self._read(module)
        return [entry for entry in entries if f"{module}.{entry.name.partition('.')[0]}" not in self._moved]

    def _read(self, module: str) -> list[_Entry]:
        if module not in self._entries:
            self._entries[module] = []  # modules that import each other end here
            source = self._sources[module]
            self._entries[module] = self._parsed(module, source) if source else list(_compiled(module))
        return self._entries[module]

    def _parsed(self, module: str, source: Path) -> list[_Entry]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's own invalid escapes
            tree = ast.parse(source.read_bytes(), source.name)
        body = list(_statements(tree.body))
        self._exports[module] = _exports(body)
        package = module if source.name == "__init__.py" else module.rpartition(".")[0]
        entries = [_Entry("", "module", "", ast.get_docstring(tree) or ""), *_definitions(body, "")]
        for node in body:
            if isinstance(node, ast.ImportFrom):
                entries += self._taken(node, module, package)
        return entries

    def _taken(self, node: ast.ImportFrom, module: str, package: str) -> Iterator[_Entry]:
        """What ``from ... import`` takes over from a private module or, in a package, from its parts."""
        above = package.split(".")
        above = above[: len(above) - node.level + 1] if node.level else []
        origin = ".".join([*above, node.module] if node.module else above)
        own_part = origin.startswith(f"{module}.")
        if origin not in self._sources or not (own_part or _PRIVATE.search(origin)):
            return
        try:
            entries = self._read(origin)
        except _UNREADABLE:
            return  # an optional accelerator this build lacks; the module has a fallback
        every = node.names[0].name == "*"
        names = {alias.name: alias.asname or alias.name for alias in node.names}
        exports = self._exports.get(origin if every else module)
        for entry in entries:
            top, dot, rest = entry.name.partition(".")
            name = top if every else names.get(top, "")
            if _is_public(name) and (not exports or name in exports):
                self._moved |= {f"{origin}.{top}"} if own_part else set()
                yield replace(entry, name=name + dot + rest)


def _located() -> Iterator[tuple[str, Path | None]]:
    """Every module of the standard library with its source, None where it is compiled."""
    library = sysconfig.get_path("stdlib")
    shared = sysconfig.get_config_var("DESTSHARED") or f"{library}/lib-dynload"
    places = [library, shared, f"{sys.base_prefix}/DLLs"]
    for name in sorted(sys.stdlib_module_names):
        if name in sys.builtin_module_names:
            yield name, None
            continue
        spec = None if _UNREAD.search(name) else PathFinder.find_spec(name, places)
        if spec is not None and spec.submodule_search_locations:
            yield from _package(name, Path(spec.submodule_search_locations[0]))
        elif spec is not None and spec.origin:
            yield name, Path(spec.origin) if spec.origin.endswith(".py") else None


def _package(name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        dotted = ".".join([name, *(part for part in parts if part != "__init__")])
        if not _UNREAD.search(dotted):
            yield dotted, path


def _is_public(name: str) -> bool:
    return bool(name) and not name.startswith("_")


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, those inside ``if``, ``try`` and ``with`` in their place."""
    for node in body:
        match node:
            case ast.If(body=inner, orelse=other):
                yield from _statements([*inner, *other])
            case ast.Try(body=inner, handlers=handlers, orelse=other, finalbody=last):
                caught = [statement for handler in handlers for statement in handler.body]
                yield from _statements([*inner, *caught, *other, *last])
            case ast.With(body=inner):
                yield from _statements(inner)
            case _:
                yield node


def _exports(body: Sequence[ast.stmt]) -> frozenset[str]:
    """The names in a literal ``__all__``; empty where the module has none."""
    for node in body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=names) | ast.Tuple(elts=names)):
                return frozenset(str(name.value) for name in names if isinstance(name, ast.Constant))
    return frozenset()


def _definitions(body: Sequence[ast.stmt], inside: str) -> Iterator[_Entry]:
    """The public classes and functions of a module or, ``inside`` naming it with a dot, of a class."""
    for node in body:
        match node:
            case ast.ClassDef(name=name) if _is_public(name):
                yield _Entry(inside + name, "class", "", ast.get_docstring(node) or "")
                yield from _definitions(list(_statements(node.body)), f"{inside}{name}.")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if _is_public(name):
                kind: Kind = "method" if inside else "function"
                yield _Entry(inside + name, kind, _signature(node, kind), ast.get_docstring(node) or "")


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, kind: Kind) -> str:
    """The arguments, a method's without ``self``; "" for a property."""
    if any("property" in ast.unparse(decorator) for decorator in node.decorator_list):
        return ""
    arguments = f"({ast.unparse(node.args)})"
    return _SELF.sub("(", arguments) if kind == "method" else arguments


def _compiled(module: str) -> Iterator[_Entry]:
    """What a built-in or extension module documents. This imports it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some modules are deprecated
        spec = importlib.util.find_spec(module)
        if spec is None or (spec.origin or "").endswith(".py"):
            raise ImportError("another module of that name hides it")
        loaded = importlib.import_module(module)
    yield _Entry("", "module", "", _doc(loaded))
    for name, value in sorted(vars(loaded).items()):
        if not _is_public(name):
            continue
        if inspect.isbuiltin(value):
            yield _Entry(name, "function", _text_signature(value, name), _doc(value))
        elif isinstance(value, type) and value.__name__ == name:  # not a second name of another class
            yield _Entry(name, "class", "", _doc(value))
            yield from _compiled_methods(value)


def _compiled_methods(owner: type) -> Iterator[_Entry]:
    for name, member in sorted(vars(owner).items()):
        if _is_public(name) and isinstance(_doc(member), str):
            routine = inspect.isroutine(member)
            if routine or inspect.isdatadescriptor(member):
                signature = _text_signature(getattr(owner, name), name) if routine else ""
                yield _Entry(f"{owner.__name__}.{name}", "method", signature, _doc(member))


def _doc(value: object) -> str:
    doc = getattr(value, "__doc__", None)
    return doc if isinstance(doc, str) else ""


def _text_signature(value: object, name: str) -> str:
    """The arguments as C code declares them or as the docstring's first line gives them, else ``(...)``."""
    declared = getattr(value, "__text_signature__", None)
    if isinstance(declared, str):
        return _SELF.sub("(", declared)
    told = re.match(rf"(?:\w+\.)?{re.escape(name)}(\([^\n]*?\))(?= ->|$)", _doc(value), re.MULTILINE)
    return told[1] if told else "(...)"

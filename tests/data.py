"""Where the real test collections lie, which are too large for the repository and have licences of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_oracle(name: str) -> Path:
    """The folder of reference values made with published code; skips the calling test where it is not here.

    Looked for in KVASIR_TEST_ORACLES, or in ``shared/oracles`` beside the checkout where that is not set.
    """
    root = Path(os.environ.get("KVASIR_TEST_ORACLES") or Path(__file__).resolve().parents[2] / "shared" / "oracles")
    if not (root / name).is_dir():
        pytest.skip(f"no oracle {name!r} in {root}: set KVASIR_TEST_ORACLES to the folder that holds it")
    return root / name


def shared_data(name: str) -> Path:
    """The folder of a real test collection; skips the calling test, saying why, where it is not on this machine.

    Looked for in KVASIR_TEST_DATA, or in ``shared/data`` beside the checkout where that is not set.
    """
    root = Path(os.environ.get("KVASIR_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    folder = root / name
    if not folder.is_dir():
        pytest.skip(f"no test collection {name!r} in {root}: set KVASIR_TEST_DATA to the folder that holds it")
    return folder

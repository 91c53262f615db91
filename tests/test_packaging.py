"""The four import packages belong to this distribution alone."""

from __future__ import annotations

from importlib.metadata import packages_distributions

import pytest


@pytest.mark.parametrize("package", ["rag", "indexes", "api", "eval"])
def test_no_other_distribution_ships_the_package(package: str) -> None:
    owners = set(packages_distributions().get(package, []))
    assert owners <= {"kvasir"}, f"{owners - {'kvasir'}} would shadow {package}"

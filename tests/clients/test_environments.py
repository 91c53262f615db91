"""An environment is made once for a list, anew for another, and what cannot be made is said."""

from __future__ import annotations

from pathlib import Path

from tests.clients.environments import ready


def test_an_environment_is_kept_until_its_list_changes(tmp_path: Path) -> None:
    wanted, place = tmp_path / "group.txt", tmp_path / "kept"
    wanted.write_text("# nothing\n")
    assert ready(wanted, place) == ""
    assert (place / "bin" / "python").exists()
    (place / "mark").touch()
    ready.cache_clear()
    assert ready(wanted, place) == ""
    assert (place / "mark").exists()
    ready.cache_clear()
    wanted.write_text("# nothing either\n")
    assert ready(wanted, place) == ""
    assert not (place / "mark").exists()


def test_what_cannot_be_installed_is_said_and_tried_once(tmp_path: Path) -> None:
    wanted, place = tmp_path / "group.txt", tmp_path / "kept"
    wanted.write_text(f"nothing @ file://{tmp_path}/nothing-1-py3-none-any.whl\n")
    trouble = ready(wanted, place)
    assert trouble.startswith("the clients of group.txt cannot be installed")
    assert not (place / "requirements.hash").exists()
    wanted.unlink()
    assert ready(wanted, place) == trouble

"""Checkpoints of a training run: weights and optimizer moments as safetensors, the rest as JSON."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexes.durable import sync_tree, write_atomic

if TYPE_CHECKING:
    import torch

_LATEST = "latest.json"


def save(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """The state after ``state["step"]`` steps; a crash leaves the one before it."""
    from safetensors.torch import save_file

    name = f"checkpoint-{state['step']:07d}"
    beside = folder / f".{name}.{os.getpid()}.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_file(
        {key: value.detach().contiguous() for key, value in model.named_parameters()}, beside / "model.safetensors"
    )
    save_file(_moments(model, optimizer), beside / "optimizer.safetensors")
    (beside / "state.json").write_text(json.dumps(state), encoding="utf-8")
    sync_tree(beside)
    shutil.rmtree(folder / name, ignore_errors=True)
    beside.rename(folder / name)
    write_atomic(folder / _LATEST, json.dumps({"checkpoint": name}).encode())
    for old in folder.glob("checkpoint-*"):
        if old.name != name:
            shutil.rmtree(old)


def exists(folder: Path) -> bool:
    return (folder / _LATEST).is_file()


def load(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Fill model and optimizer from the last checkpoint; returns its state."""
    import torch
    from safetensors.torch import load_file

    last = folder / json.loads((folder / _LATEST).read_text(encoding="utf-8"))["checkpoint"]
    weights, moments = load_file(last / "model.safetensors"), load_file(last / "optimizer.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
            optimizer.state[parameter] = {
                key: moments[f"{key}:{name}"].to(parameter.device if key != "step" else "cpu")
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}:{name}" in moments
            }
    state: dict[str, Any] = json.loads((last / "state.json").read_text(encoding="utf-8"))
    return state


def _moments(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{key}:{name}": value.detach().contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }

"""Train the embedded language model: ``python -m rag.embedded_model.train --out DIR``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rag.errors import KvasirError


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when the run is complete, 1 where it could not start or go on."""
    options = _options().parse_args(arguments)
    try:
        _train(options)
    except KvasirError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rag.embedded_model.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoints, log.jsonl, model/")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("KVASIR_TEST_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data"),
        help="folder of the collections scifact, pubmedqa-l, hotpotqa-hippo-train (default: %(default)s)",
    )
    parser.add_argument("--head-steps", type=int, default=1600, help="steps that form the heads (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1600, help="steps behind them, with texts (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: as PyTorch chooses)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    return parser


def _train(options: argparse.Namespace) -> None:
    import torch

    from rag.embedded_model.architecture import Shape
    from rag.embedded_model.documentation import documentation
    from rag.embedded_model.open_collections import open_collections
    from rag.embedded_model.run import Run, Settings
    from rag.embedded_model.teacher import LICENCE
    from rag.embedded_model.watching import Watching
    from rag.encoders import has_bfloat16

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    precision = options.precision
    settings = Settings(
        head_steps=options.head_steps,
        steps=options.steps,
        seed=options.seed,
        half=has_bfloat16(options.device) if precision == "auto" else precision == "bfloat16",
        threads=torch.get_num_threads(),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    with Watching(options.out, settings.all_steps) as watching:
        watching.say("collecting text")
        corpora = [documentation(), *open_collections(options.data)]
        if len(corpora) == 1:
            watching.say(
                f"NO COLLECTIONS in {options.data}: training on documentation alone, without evaluation; "
                "name their folder with --data"
            )
        for corpus in corpora:
            watching.say(f"{corpus.name}: {len(corpus.passages)} passages, {len(corpus.questions)} questions")
        run = Run(
            options.out, corpora, settings, Shape(), device=options.device, resume=options.resume, say=watching.say
        )
        sources = [line for corpus in corpora for line in corpus.licences] + [LICENCE]
        watching.note({"step": run.step, "sources": sources})
        watching.say(f"{settings.all_steps} steps, {sum(p.numel() for p in run.model.parameters())} parameters")
        watching.begin(run.step)
        run.train(watching.step, watching.note)


if __name__ == "__main__":
    sys.exit(main())

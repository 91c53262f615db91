"""``kvasir models`` and ``kvasir verify``: which models there are, their heads, and whether the arithmetic is right."""

from __future__ import annotations

import json
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Annotated, Literal

import typer

from rag.cli_options import Config, Home, Json, ModelName, engine_of

models = typer.Typer(help="List rerankers and head sets; find the heads of a model.", rich_markup_mode=None)
verify = typer.Typer(
    help="Check rerankers, selection and cached states against what must come out.", rich_markup_mode=None
)

Oracle = Annotated[Path, typer.Option("--oracle", help="The folder of the reference values, with cases.jsonl.")]


@models.command("list")
def list_models(home: Home = None, config: Config = None, as_json: Json = False) -> None:
    """Model families, configured rerankers and published head sets."""
    from dataclasses import asdict

    from rag.config import load_settings
    from rag.reranking.heads import published
    from rag.runtime.families import families

    settings = load_settings(config, home=home)
    if as_json:
        said = {
            "model": settings.model.name,
            "families": {family.name: list(family.model_types) for family in families()},
            "rerankers": {name: asdict(chosen) for name, chosen in settings.rerankers.items()},
            "heads": {name: asdict(chosen) for name, chosen in published().items()},
        }
        typer.echo(json.dumps(said, ensure_ascii=False))
        return
    typer.echo(f"language model: {settings.model.name or 'none is set ([model] name, KVASIR_MODEL__NAME)'}")
    typer.echo("\nfamilies (architectures of a model's config.json)")
    for family in families():
        typer.echo(f"  {family.name:<12} {', '.join(family.model_types)}")
    typer.echo("\nrerankers")
    for name, reranker in settings.rerankers.items():
        typer.echo(f"  {name:<14} {reranker.kind}{f', model {reranker.model}' if reranker.model else ''}")
    typer.echo('\nhead sets for icr: heads = "NAME"')
    for name, chosen in published().items():
        typer.echo(f"  {name:<32} {len(chosen.heads):>3} heads of {chosen.model}")


@models.command("heads")
def find_heads(
    data: Annotated[Path, typer.Option(help="A BEIR folder with the judged queries of the split.")],
    out: Annotated[Path, typer.Option(help="The file to write: a head set in TOML.")],
    model: ModelName = "",
    split: Annotated[str, typer.Option(help="The split whose judgements count; never the one to test on.")] = "train",
    run: Annotated[
        Path | None,
        typer.Option(
            help="A TREC run with the candidates; without one they are each query's relevant passages and BM25's best "
            "others, from a Lucene index that is built for this and thrown away."
        ),
    ] = None,
    criterion: Annotated[Literal["qrhead", "core"], typer.Option(help="Whose criterion.")] = "qrhead",
    size: Annotated[int, typer.Option(min=0, help="Heads to choose, 0 for as many as published.")] = 0,
    depth: Annotated[int, typer.Option(min=2, max=1000, help="Candidates a query.")] = 20,
    queries: Annotated[int, typer.Option(min=1, help="Queries at most, the first ones.")] = 128,
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Find the attention heads of a model that tell relevant passages, for heads = "FILE" of an icr reranker."""
    engine = engine_of(home, config)
    # by name: the readers of test collections are above rag, and only this door leads up
    found = import_module("eval.heads").find(
        engine, model, data, split, out, run=run, criterion=criterion, size=size, depth=depth, limit=queries
    )
    if as_json:
        typer.echo(json.dumps(found.as_json(), ensure_ascii=False))
        return
    typer.echo(f"{out}: {' '.join(f'{layer}-{head}' for layer, head in found.heads.heads)}")
    typer.echo(f"{found.heads.source}, candidates: {found.candidates}")


@verify.command("icr")
def verify_icr(oracle: Oracle, as_json: Json = False) -> None:
    """Scores and orders of attention reranking, in float32 on the CPU; exit code 1 where one differs."""
    from rag.language_model import LanguageModel
    from rag.reranking.icr_oracle import TOLERANCE, CaseResult
    from rag.reranking.icr_oracle import verify as run_cases

    def say(case: CaseResult) -> None:
        if not as_json:
            verdict = f"FAIL: {'; '.join(case.problems)}" if case.problems else "ok"
            typer.echo(f"{case.id:<40} difference {case.difference:.1e}  {verdict}")

    report = run_cases(oracle, lambda path: LanguageModel(str(path), device="cpu", dtype="float32"), say)
    if as_json:
        cases = [
            {"id": c.id, "difference": _finite(c.difference), "same_order": c.same_order, "problems": list(c.problems)}
            for c in report.cases
        ]
        said = {"passed": report.passed, "cases": cases, "largest_difference": _finite(report.difference)}
        typer.echo(json.dumps(said | {"same_order": report.same_order, "tolerance": TOLERANCE}))
    else:
        verdict = "PASS" if report.passed else "FAIL"
        difference = f"largest difference {report.difference:.1e} (at most {TOLERANCE:g})"
        typer.echo(f"{verdict}: {difference}, same order {report.same_order}/{len(report.cases)}")
    raise typer.Exit(0 if report.passed else 1)


@verify.command("prp")
def verify_prp(oracle: Oracle, as_json: Json = False) -> None:
    """Orders and comparison counts of the pairwise sorters; exit code 1 where one differs."""
    from rag.reranking.prp_oracle import verify as run_cases

    report = run_cases(oracle)
    passed = report.passed == report.cases
    if as_json:
        said = {"passed": passed, "cases": report.cases, "cases_passed": report.passed}
        typer.echo(json.dumps(said | {"failures": list(report.failures)}))
    else:
        for failure in report.failures:
            typer.echo(failure)
        typer.echo(f"{'PASS' if passed else 'FAIL'}: {report.passed}/{report.cases} cases")
    raise typer.Exit(0 if passed else 1)


@verify.command("selection")
def verify_selection(
    small: Annotated[int, typer.Option(min=1, help="Instances of at most 8 chunks, each solved exhaustively.")] = 200,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the larger instances.")] = False,
    as_json: Json = False,
) -> None:
    """Chunk-set search against the optimum and other searchers, on made instances; exit code 1 where a check fails."""
    from dataclasses import asdict

    from rag.selection.verification import SIZES
    from rag.selection.verification import verify as run_checks

    report = run_checks(small=small, sizes=() if quick else SIZES, laws_on=5 if quick else 40)
    if as_json:
        typer.echo(json.dumps(asdict(report) | {"passed": report.passed}))
    else:
        for check in report.checks:
            typer.echo(f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.figures}")
        typer.echo(f"{'PASS' if report.passed else 'FAIL'} after {report.seconds:.0f} s")
    raise typer.Exit(0 if report.passed else 1)


@verify.command("cache")
def verify_cache(
    model: Annotated[str, typer.Option("--model", help="A language model by path or hub name.")],
    dtype: Annotated[Literal["fp32", "bf16", "fp16"], typer.Option(help="The numbers it computes in.")] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    prompts: Annotated[int, typer.Option(min=1, help="Prompts the divergence of blend is averaged over.")] = 20,
    as_json: Json = False,
) -> None:
    """Whether cached chunk states fit together as they must, on this model and device; exit code 1 where not."""
    from rag.kv.cachecheck import verify as run_checks
    from rag.language_model import LanguageModel

    kind = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[dtype]
    report = run_checks(LanguageModel(model, device=device, dtype=kind), prompts=prompts)
    if as_json:
        checks = [
            {"check": c.name, "tolerance": c.tolerance, "found": _finite(c.found), "passed": c.passed}
            for c in report.checks
        ]
        said = {"model": report.model, "dtype": report.dtype, "device": report.device, "passed": report.passed}
        typer.echo(json.dumps(said | {"checks": checks}))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("check", "tolerance", "found", "", title=f"{report.model}, {report.dtype} on {report.device}")
        for c in report.checks:
            table.add_row(c.name, f"{c.tolerance:.1e}", f"{c.found:.1e}", "ok" if c.passed else "FAIL")
        Console().print(table)
        passed = sum(check.passed for check in report.checks)
        typer.echo(f"{'PASS' if report.passed else 'FAIL'}: {passed}/{len(report.checks)} checks")
    raise typer.Exit(0 if report.passed else 1)


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None

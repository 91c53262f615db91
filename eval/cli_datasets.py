"""``kvasir-eval datasets`` and ``kvasir-eval import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eval.cli_options import Json, print_json


def datasets(as_json: Json = False) -> None:
    """List the collections that are known by name: splits, published counts, licences."""
    from eval.datasets.catalog import COLLECTIONS, splits

    listed = [(known, split, counts) for known in COLLECTIONS for split, counts in splits(known).items()]
    if as_json:
        print_json(
            [
                {
                    "name": known.name,
                    "split": split,
                    "documents": counts.documents,
                    "judged_queries": counts.queries,
                    "judgements": counts.judgements,
                    "by_name": bool(known.fetched),
                    "licence": known.licence,
                }
                for known, split, counts in listed
            ]
        )
        return
    typer.echo(f"{'collection':32} {'split':6} {'documents':>12} {'queries':>8} {'judged':>8}  licence")
    for known, split, counts in listed:
        numbers = [
            ("-" if each is None else f"{each:,}") for each in (counts.documents, counts.queries, counts.judgements)
        ]
        typer.echo(
            f"{known.name:32} {split:6} {numbers[0]:>12} {numbers[1]:>8} {numbers[2]:>8}  {known.licence}"
            + ("" if known.fetched else "; from a folder")
        )


def import_set(
    form: Annotated[str, typer.Argument(help="litsearch, hotpotqa, 2wiki, musique, pubmedqa, or questions, your own.")],
    source: Annotated[str, typer.Argument(help="Its file; for litsearch the folder with its tables, or its hub name.")],
    out: Annotated[Path, typer.Argument(help="The BEIR folder to make.")],
    text: Annotated[str, typer.Option(help="Of a litsearch paper: abstract, full, or s2orc.")] = "abstract",
) -> None:
    """Bring a data set with another layout into BEIR's, which every other command reads."""
    from eval.datasets.litsearch import import_litsearch
    from eval.datasets.questions import import_questions
    from rag.errors import InvalidInput

    if form == "litsearch":
        if text not in ("abstract", "full", "s2orc"):
            raise InvalidInput(f"text = {text!r}; it is abstract, full or s2orc")
        documents = import_litsearch(source, out, text=text)  # type: ignore[arg-type]
    else:
        documents = import_questions(form, Path(source), out)
    typer.echo(f"{out}: {documents} documents")

"""The collections that are known by name, and the counts that a loaded one should have."""

from __future__ import annotations

from dataclasses import dataclass

from eval.beir import SPLITS, Dataset
from eval.trec import Qrels

BEIR = "CC BY-SA 4.0 by BEIR's card; the source's own licence holds besides"
NIST = "by agreement with NIST, not in BEIR's archives"
ASKED = "by registration at its source, not in BEIR's archives"
MSMARCO = "MS MARCO's terms: research, not commercial"


@dataclass(frozen=True, slots=True)
class Known:
    """A collection.

    fetched  its name in ir_datasets without the split, "" where it cannot be fetched by name
    """

    name: str
    fetched: str
    licence: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What a split should hold; None where nobody has said it."""

    documents: int | None
    queries: int | None
    judgements: int | None


_FORUMS = (
    *("android", "english", "gaming", "gis", "mathematica", "physics", "programmers"),
    *("stats", "tex", "unix", "webmasters", "wordpress"),
)
"""CQADupStack's parts."""

COLLECTIONS = (
    Known("msmarco", "beir/msmarco", MSMARCO),
    *(Known(name, f"beir/{name}", BEIR) for name in ("trec-covid", "nfcorpus")),
    Known("bioasq", "", ASKED),
    *(Known(name, f"beir/{name}", BEIR) for name in ("nq", "hotpotqa", "fiqa")),
    Known("signal1m", "", ASKED),
    Known("trec-news", "", NIST),
    Known("robust04", "", NIST),
    *(Known(name, f"beir/{name}", BEIR) for name in ("arguana", "webis-touche2020")),
    *(Known(f"cqadupstack-{forum}", f"beir/cqadupstack/{forum}", BEIR) for forum in _FORUMS),
    *(Known(name, f"beir/{name}", BEIR) for name in ("quora", "dbpedia-entity", "scidocs", "fever", "climate-fever")),
    Known("scifact", "beir/scifact", "ODC-By 1.0, CC BY 4.0"),
    Known("msmarco-passage/trec-dl-2019", "msmarco-passage/trec-dl-2019/judged", MSMARCO),
    Known("msmarco-passage/trec-dl-2020", "msmarco-passage/trec-dl-2020/judged", MSMARCO),
    Known("msmarco-passage-v2/trec-dl-2021", "msmarco-passage-v2/trec-dl-2021/judged", MSMARCO),
    Known("litsearch", "", "MIT"),
)
"""BEIR's 18 sets and MS MARCO, CQADupStack in its 12 parts; TREC's deep learning tracks; LitSearch."""

LITSEARCH = Counts(64_183, 597, None)
"""By the card of princeton-nlp/LitSearch."""


def splits(known: Known) -> dict[str, Counts]:
    """The splits with judgements and their counts, by the metadata that ir_datasets carries. Needs no network."""
    if known.name == "litsearch":
        return {"test": LITSEARCH}
    if not known.fetched:
        return {"test": Counts(None, None, None)}
    import ir_datasets

    registry = ir_datasets.registry
    named = [split for split in SPLITS if f"{known.fetched}/{split}" in registry]
    if not named:
        return {"test": _counts(known.fetched, known.fetched)}
    return {split: _counts(known.fetched, f"{known.fetched}/{split}") for split in named}


def _counts(whole: str, split: str) -> Counts:
    import ir_datasets

    source, judged = ir_datasets.load(whole), ir_datasets.load(split)
    return Counts(
        (source.docs_metadata() or {}).get("count"),
        (judged.queries_metadata() or {}).get("count"),
        (judged.qrels_metadata() or {}).get("count"),
    )


def find(name: str) -> Known | None:
    """The collection of a folder's or set's name, None for one's own. Slashes and dashes are the same."""
    plain = name.removeprefix("beir/").replace("/", "-")
    return next((known for known in COLLECTIONS if known.name.replace("/", "-") == plain), None)


def mismatches(dataset: Dataset, documents: int) -> list[str]:
    """What a loaded split has otherwise than published, in words; nothing for a set that is not known.

    documents  how many the collection holds, documents without text included
    """
    known = find(dataset.name)
    expected = splits(known).get(dataset.split) if known is not None else None
    if expected is None:
        return []
    counted = {
        "documents": (documents, expected.documents),
        "judged queries": (len(dataset.qrels), expected.queries),
        "judgements": (_pairs(dataset.qrels), expected.judgements),
    }
    return [
        f"{dataset.name} {dataset.split} has {found} {what}, published are {wanted}: figures of others do not compare"
        for what, (found, wanted) in counted.items()
        if wanted is not None and found != wanted
    ]


def _pairs(qrels: Qrels) -> int:
    return sum(map(len, qrels.values()))

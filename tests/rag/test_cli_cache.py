"""``kvasir cache`` as a person runs it, and rerankers that find what it stored."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from indexes.build import BuildSettings, build
from indexes.chunking import Chunking
from indexes.corpus import Document
from indexes.home import Home
from rag.assemble import Engine
from rag.caching import Caching
from rag.config import load_settings
from rag.encoders import SentenceEncoder
from rag.errors import CacheUnavailable, InvalidConfig, InvalidInput
from rag.kv.warm import warm
from rag.runtime.meter import Meter
from rag.runtime.reader import Reader
from rag.values import Hit, Query, Ranking, ScoreKind, StageReport
from tests.eval.conftest import write_beir
from tests.eval.test_cli import run as kvasir_eval
from tests.fakes import ListSource
from tests.rag.test_cli_rerank import kvasir
from tests.redis_server import RedisServer, free_port
from tests.tiny_models import one_thread, saved

__all__ = ["one_thread"]

DOCUMENTS = [
    Document("lamp", "The lighthouse", "The lighthouse of Vendel was built in 1871 and rises 42 metres above the sea."),
    Document("ferry", "The ferry", "The ferry takes thirty minutes in summer; in winter it does not sail on Sundays."),
    Document("birds", "", "Puffins nest on the western cliffs, and cats are banned while the chicks are small."),
    Document("cheese", "Cheese", " ".join(f"Farm {i} makes cheese of sheep's milk." for i in range(9))),
]
QUERY = "When was the lighthouse built?"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, encoder: SentenceEncoder) -> Path:
    home = Home(tmp_path_factory.mktemp("islands"))
    build(home, "isles", ListSource(DOCUMENTS), encoder, BuildSettings(chunking=Chunking("sentences", 40, 8)))
    return home.root


@pytest.fixture(autouse=True)
def home(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own with the collection ``isles``, and a tiny language model."""
    shutil.copytree(built, tmp_path / "home")
    for key, value in {
        "HOME": tmp_path / "home",
        "MODEL__NAME": saved("llama"),
        "MODEL__DTYPE": "float32",
        "CACHE__SCHEME": "fp32",
        "CACHE__MODE": "independent",
    }.items():
        monkeypatch.setenv(f"KVASIR_{key}", str(value))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "home"


def said(*arguments: object, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kvasir("cache", *arguments, "--json", code=code).splitlines()[-1])
    return found


def engine_here() -> Engine:
    return Engine(load_settings())


def chunks_of(engine: Engine) -> list[Any]:
    return [chunk for part in engine.collection("isles").snapshot().store.iterate_chunks() for _, chunk in part]


def all_of(engine: Engine) -> Ranking:
    """Every chunk, in the order of the collection."""
    hits = tuple(Hit(chunk, -float(i)) for i, chunk in enumerate(chunks_of(engine)))
    return Ranking(hits, ScoreKind.RANK, StageReport("given", n_out=len(hits)))


# --- warm ---


def test_warm_reads_each_chunk_once_and_goes_on_where_it_stopped() -> None:
    first, again = said("warm", "isles"), said("warm", "isles")
    assert (first["there"], again["there"], again["read"], again["tokens"]) == (0, first["chunks"], 0, 0)
    assert first["read"] == first["chunks"] >= len(DOCUMENTS)
    assert first["tokens"] > 0
    files = [path for path in Path(os.environ["KVASIR_HOME"]).glob("chunk_states/*/kv1*") if path.is_file()]
    assert len(files) == first["chunks"]
    files[0].unlink()
    assert said("warm", "isles")["read"] == 1
    assert f"{first['chunks']} chunks: {first['chunks']} were there, 0 read" in kvasir("cache", "warm", "isles")


@pytest.mark.parametrize("kind", ["icr", "prp", "setwise", "listwise", "pointwise", "likelihood"])
def test_a_reranker_finds_what_was_read_for_it(kind: str) -> None:
    said("warm", "isles", "--reranker", kind)
    engine = engine_here()
    library = engine.caching.library()
    looked_up: list[int] = []
    find = library.find

    def watched(chunks: Any, meter: Meter) -> Any:
        found = find(chunks, meter)
        looked_up.extend(map(len, found.states))
        assert not found.read
        return found

    library.find = watched  # type: ignore[method-assign]
    report = engine.reranker(kind).rerank(Query(QUERY), all_of(engine)).report
    assert looked_up
    assert (report.cache_mode, report.reused > 0) == ("independent", True)


def test_two_processes_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer() as server:
        monkeypatch.setenv("KVASIR_REDIS_URL", server.url)
        done = said("warm", "isles", "--workers", 2, "--batch-tokens", 64)
        assert done["workers"] == 2
        assert done["chunks"] <= done["read"] <= done["chunks"] + 2
        assert said("warm", "isles")["read"] == 0
        assert said("verify", "isles")["passed"] is True
        assert said("stats", "isles")["collection"]["share"] == 1.0
        assert "redis" in said("stats")["store"]


def test_warming_stops_where_the_store_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVASIR_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(CacheUnavailable, match="what is stored stays"):
        kvasir("cache", "warm", "isles")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("KVASIR_CACHE__STORE", "none", "nothing is kept"),
        ("KVASIR_CACHE__STORE", "memory", "ends with the process"),
        ("KVASIR_CACHE__SCHEME", "int4", "int4"),
        ("KVASIR_MODEL__NAME", "lexical", "no states to keep"),
        ("KVASIR_MODEL__NAME", "", "no language model is set"),
    ],
)
def test_a_mistake_says_what_to_do(key: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(InvalidConfig, match=message):
        kvasir("cache", "warm", "isles")


def test_only_rerankers_that_read_passages_can_be_warmed_for() -> None:
    with pytest.raises(InvalidConfig, match="no reranker that reads passages; take one of icr, prp"):
        kvasir("cache", "warm", "isles", "-r", "sentences")


def test_batches_in_any_order_and_size_store_the_same() -> None:
    engine = engine_here()
    library = engine.caching.library()
    form = engine.caching.form()
    passages = engine.caching.passages(library, chunks_of(engine), form)
    seen: list[tuple[int, int]] = []
    done = warm(
        library, [*passages, *passages, ()], Meter(), batch_tokens=64, seed=7, progress=lambda *x: seen.append(x)
    )
    assert done.chunks == done.read == len(set(passages))
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1] == done.tokens
    assert all(state is not None for state in library.cache.get_many(passages))  # type: ignore[union-attr]


# --- stats, verify, drop ---


def test_stats_count_values_and_chunks() -> None:
    assert said("stats", "isles")["collection"]["stored"] == 0
    chunks = said("warm", "isles")["chunks"]
    found = said("stats", "isles")
    assert found["collection"] == {"name": "isles", "chunks": chunks, "stored": chunks, "share": 1.0}
    assert [tier["entries"] for tier in found["tiers"] if tier["name"] == "files"] == [chunks]
    assert "(100.0%)" in kvasir("cache", "stats", "isles")


def test_verify_finds_a_flipped_bit_and_values_of_other_weights(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = said("warm", "isles")["chunks"]
    found = said("verify")
    assert (found["values"], found["compared"], found["passed"]) == (chunks, chunks, True)
    assert found["largest"] <= found["tolerance"]
    file = next(path for path in home.glob("chunk_states/*/kv1*") if path.is_file())
    value = bytearray(file.read_bytes())
    value[-9] ^= 1
    file.write_bytes(value)
    found = said("verify", "isles", code=1)
    assert (len(found["damaged"]), found["compared"]) == (1, chunks - 1)
    assert "damaged: kv1:" in kvasir("cache", "verify", code=1)
    file.unlink()
    # states under this model's name that another model read
    engine = engine_here()
    library = engine.caching.library()
    cache = library.cache
    assert cache is not None
    from dataclasses import replace

    one = engine.caching.passages(library, chunks_of(engine)[:1], engine.caching.form())[0]
    states = cache.get(one)
    if states is None:
        library.find([one], Meter())
        states = cache.get(one)
    assert states is not None
    engine.caching.store.delete([cache.key(one)])  # type: ignore[union-attr]
    cache.put(replace(states, keys=states.keys.flip(2).clone()))
    found = said("verify", code=1)
    assert found["wrong"] == [cache.key(one)]


def test_variants_are_counted_audited_and_forgotten_with_a_document(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVASIR_CACHE__MODE", "craft")
    assert said("stats")["variants"] == 0
    engine = engine_here()
    cold, warm = (engine.reranker("icr").rerank(Query(QUERY), all_of(engine)).report for _ in range(2))
    assert warm.tokens < cold.tokens
    variants = said("stats")["variants"]
    assert variants == len(chunks_of(engine)) - 1 > 0  # all but the first of the prompt
    assert f"{variants} values are variants" in kvasir("cache", "stats")
    found = said("verify")
    assert (found["variants"], found["apart"], found["passed"]) == (variants, 0, True)
    file = next(path for path in home.glob("chunk_states/*/kv1*i0") if path.is_file())
    file.write_bytes(file.read_bytes()[:-1])
    assert len(said("verify", code=1)["damaged"]) == 1
    deleted = json.loads(kvasir("collections", "delete", "isles", *[doc.id for doc in DOCUMENTS], "--json"))
    assert (deleted["cache_trouble"], said("stats")["variants"]) == ("", 0)
    monkeypatch.setenv("KVASIR_CACHE__VARIANTS", "0")
    assert engine_here().caching.library().slots is None


def test_drop_deletes_a_collections_states_or_all() -> None:
    chunks = said("warm", "isles")["chunks"]
    said("warm", "isles", "--reranker", "listwise")
    everything = sum(tier["entries"] for tier in said("stats")["tiers"] if tier["name"] == "files")
    assert everything == 2 * chunks
    assert said("drop", "isles", "--yes") == {"deleted": everything}
    said("warm", "isles")
    assert said("drop", "--yes") == {"deleted": chunks}
    assert said("stats")["tiers"][-1]["entries"] == 0


# --- through rerank, search and evaluation ---


@pytest.mark.parametrize("kind", ["files", "redis"])
def test_rerank_search_and_evaluation_reuse_what_is_stored(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer() as server:
        if kind == "redis":
            monkeypatch.setenv("KVASIR_REDIS_URL", server.url)
        lines = tmp_path / "lines.txt"
        lines.write_text("Cats sleep all day.\nDogs bark at the postman.\n")
        cold, warm_one = (json.loads(kvasir("rerank", QUERY, lines, "--json")) for _ in range(2))
        assert cold["results"] == warm_one["results"]
        (before,), (after,) = cold["trace"]["stages"], warm_one["trace"]["stages"]
        assert (before["cache_mode"], before["reused"] < after["reused"]) == ("independent", True)
        assert after["tokens"] < before["tokens"]
        assert "independent: " in kvasir("rerank", QUERY, lines)
        said("warm", "isles")
        search = ("search", "isles", QUERY, "--set", "rerank=icr", "--set", "rerank_depth=4", "--json")
        stage = json.loads(kvasir(*search))["trace"]["stages"][-1]
        assert stage["cache_mode"] == "independent"
        monkeypatch.setenv("KVASIR_CACHE__MODE", "off")
        uncached = json.loads(kvasir(*search))["trace"]["stages"][-1]
        monkeypatch.setenv("KVASIR_CACHE__MODE", "independent")
        assert 0 < stage["reused"] <= uncached["tokens"] - stage["tokens"]
        folder = write_beir(tmp_path / "tiny")
        (tmp_path / "run.trec").write_text(
            "".join(f"q1 Q0 {doc} {i} {9 - i} t\n" for i, doc in enumerate(["cat", "dog"]))
        )
        report = json.loads(
            kvasir_eval("rerank", "--dataset", folder, "--run", tmp_path / "run.trec", "-r", "icr", "--json")
        )
        assert (report["cache_mode"], report["reused_tokens"]["total"] > 0) == ("independent", True)


def test_a_reranker_may_reuse_in_its_own_way(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "kvasir.toml").write_text('[reranker.icr]\nreuse = "link-2"\n[reranker.prp]\nreuse = "off"\n')
    lines = tmp_path / "lines.txt"
    lines.write_text("Cats sleep all day.\nDogs bark at the postman.\n")
    modes = {
        name: json.loads(kvasir("rerank", QUERY, lines, "-r", name, "--json"))["trace"]["stages"][0]["cache_mode"]
        for name in ("icr", "prp", "setwise")
    }
    assert modes == {"icr": "link-2", "prp": "", "setwise": "independent"}
    monkeypatch.setenv("KVASIR_CACHE__MODE", "link-x")
    with pytest.raises(InvalidConfig, match="no cache mode 'link-x'"):
        kvasir("rerank", QUERY, lines, "-r", "setwise")


def test_models_are_asked_for_without_a_lock_that_others_wait_for() -> None:
    engine, free = engine_here(), list[bool]()

    def take() -> bool:
        taken = caching._lock.acquire(timeout=0.1)
        if taken:
            caching._lock.release()
        return taken

    def model(name: str) -> Reader:
        with ThreadPoolExecutor(1) as threads:  # another thread, as the lock is reentrant
            free.append(threads.submit(take).result())
        return engine.language_model(name)

    caching = Caching(load_settings(), model)
    assert caching.reader("", "link-2") is caching.reader("", "link-2")
    assert len(free) > 1
    assert all(free)


# --- deletion ---


@pytest.fixture(params=["files", "redis"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    with RedisServer() as server:
        if request.param == "redis":
            monkeypatch.setenv("KVASIR_REDIS_URL", server.url)
        yield server


def stored() -> int:
    return max(int(tier["entries"]) for tier in said("stats")["tiers"])


def test_deleting_a_document_deletes_what_was_read_of_it_in_every_form(
    store: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("icr", "prp", "listwise"):
        said("warm", "isles", "--reranker", kind)
    said("warm", "isles", "--model", saved("qwen3"))  # used from this home, in no setting
    monkeypatch.setenv("KVASIR_RERANKER__ICR__PASSAGE_TOKENS", "20")
    said("warm", "isles")
    monkeypatch.delenv("KVASIR_RERANKER__ICR__PASSAGE_TOKENS")
    before = stored()
    gone = [doc.id for doc in DOCUMENTS if doc.id != "lamp"]
    deleted = json.loads(kvasir("collections", "delete", "isles", *gone, "--json"))
    assert deleted["cache_trouble"] == ""
    assert deleted["states"] == before - stored()
    left = [chunk for chunk in chunks_of(engine_here()) if chunk.doc_id == "lamp"]
    forms = {"icr", "prp", "listwise", "qwen3 icr", "icr cut at 20"}
    assert stored() == len(forms) * len(left)
    assert said("warm", "isles")["read"] == 0


def test_a_replaced_document_is_forgotten_and_the_new_one_read_where_warm_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = said("warm", "isles")["chunks"]
    monkeypatch.setenv("KVASIR_CACHE__WARM", "true")
    source = tmp_path / "new.jsonl"
    source.write_text(json.dumps({"id": "lamp", "title": "The lamp", "text": "It was sold in 1990."}))
    added = json.loads(kvasir("collections", "add", "isles", source, "--json"))
    assert (added["updated"], added["cache_trouble"]) == (1, "")
    assert stored() == said("stats", "isles")["collection"]["stored"] <= before
    assert said("warm", "isles")["read"] == 0


def test_a_deletion_that_did_not_reach_redis_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer() as server:
        monkeypatch.setenv("KVASIR_REDIS_URL", server.url)
        said("warm", "isles")
        server.stop()
        deleted = json.loads(kvasir("collections", "delete", "isles", "lamp", "--json"))
        assert deleted["deleted"] == 1
        assert "may still be stored" in deleted["cache_trouble"]


def test_a_dropped_collection_is_forgotten() -> None:
    said("warm", "isles")
    kvasir("collections", "drop", "isles", "--yes")
    assert stored() == 0


def test_nothing_heavy_is_loaded_for_help() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom rag.cli import app\n"
        "assert 'warm' in CliRunner().invoke(app, ['cache', '--help']).stdout\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'rich.progress'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- measured modes ---


def calibrated(*arguments: object, code: int = 0) -> dict[str, Any]:
    said = kvasir("models", "calibrate", saved("llama"), "--collection", "isles", *arguments, "--json", code=code)
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def reranked(engine: Engine) -> StageReport:
    ranking = engine.pipeline("isles", "bm25").search(Query(QUERY), 4)
    return engine.reranker("icr").rerank(Query(QUERY), ranking).report


def test_auto_takes_what_was_measured_and_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVASIR_CACHE__MODE", "auto")
    before = reranked(engine_here())
    assert before.cache_mode == "prefix"
    assert any("kvasir models calibrate" in note for note in before.notes)
    few = ("--questions", 2, "--chunks", 4, "--answer-tokens", 3, "--modes", "independent,link-500")
    found = calibrated(*few)
    assert found["auto"] == "link-500"  # it computes all again: nothing is lost
    rows = {(row["mode"], row["scheme"]): row for row in found["verdicts"]}
    assert rows["link-500", "fp32"]["passed"]
    assert not rows["independent", "fp32"]["passed"]
    assert set(rows) == {
        ("independent", "fp32"),
        ("link-500", "fp32"),
        *(("stored", s) for s in ("fp32", "int8", "int4")),
    }
    after = reranked(engine_here())
    assert (after.cache_mode, after.notes) == ("link-500", ())
    monkeypatch.setenv("KVASIR_CACHE__GATE_KL", "1000")
    monkeypatch.setenv("KVASIR_CACHE__GATE_NLL", "1000")
    for key in ("AGREEMENT", "OVERLAP"):
        monkeypatch.setenv(f"KVASIR_CACHE__GATE_{key}", "0")
    monkeypatch.setenv("KVASIR_CACHE__GATE_TAU", "-1")
    assert reranked(engine_here()).cache_mode == "independent"  # the same figures under bounds that all keep
    monkeypatch.setenv("KVASIR_MODEL__NAME", str(saved("qwen3")))
    assert reranked(engine_here()).cache_mode == "prefix"  # another model was not measured


def test_a_mode_by_hand_says_what_is_known_of_it(tmp_path: Path) -> None:
    assert any("was not measured on this model" in note for note in reranked(engine_here()).notes)
    questions = tmp_path / "questions.txt"
    questions.write_text(f"{QUERY}\n\nDoes the ferry sail on Sundays?\n", encoding="utf-8")
    kvasir("models", "calibrate", saved("llama"), "--collection", "isles", "--modes", "independent", "--chunks", 4,
           "--queries", questions, "--answer-tokens", 2)  # fmt: skip
    (note,) = reranked(engine_here()).notes
    assert note.startswith("cache mode independent with fp32 states failed on this model: ")


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    for arguments, why in (
        ((saved("llama"), "--queries", tmp_path / "none"), "a question a line"),
        (("lexical",), "has no states"),
        ((saved("llama"), "--modes", "fast"), "no cache mode 'fast'"),
    ):
        with pytest.raises(InvalidInput, match=why):
            kvasir("models", "calibrate", *arguments, "--collection", "isles")

"""What a person asks of the page is what the server said: answers, citations, orders, words, sets, comparisons."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from rag.config import BUILT_IN, CacheConfig, ModelConfig, PipelineConfig
from tests.api.conftest import MakeEngine, Serving
from tests.playground.conftest import Opened
from tests.tiny_models import one_thread, saved

__all__ = ["one_thread"]

DONE = re.compile(r" in [\d.,]+ m?s")


def status(page: Page) -> Any:
    return expect(page.get_by_role("status").first)


def searched(url: str, query: str, pipeline: str, k: int) -> list[dict[str, Any]]:
    body = {"collection": "demo", "query": query, "pipeline": pipeline, "k": k, "explain": True}
    found: list[dict[str, Any]] = httpx.post(f"{url}/v1/search", json=body).json()["results"]
    return found


def test_a_search_shows_the_passages_in_the_order_of_the_server(opened: Opened, url: str) -> None:
    page = opened(q="blood in the body", m="search", c="demo", p="hybrid", k="5")
    status(page).to_have_text(re.compile(r"^5 passages in "))
    cards = page.locator(".card")
    assert [card.get_attribute("data-chunk") for card in cards.all()] == [
        hit["chunk_id"] for hit in searched(url, "blood in the body", "hybrid", 5)
    ]


def test_columns_show_each_stage_s_own_order_and_arrows_lead_on(opened: Opened, url: str) -> None:
    page = opened(q="blood in the body", m="search", c="demo", p="ask", k="5")
    status(page).to_have_text(DONE)
    region = page.get_by_role("region", name="Stage by stage")
    hits = searched(url, "blood in the body", "ask", 30)
    for stage, name in {"bm25": "BM25", "dense": "dense", "fusion": "fusion", "rerank": "rerank"}.items():
        ranks = sorted(
            (one["rank"], hit["chunk_id"]) for hit in hits for one in hit["explain"] if one["stage"] == stage
        )[:12]
        items = region.get_by_role("list", name=f"Order of {name}").locator("li")
        assert [item.get_attribute("data-chunk") for item in items.all()] == [chunk for _, chunk in ranks]
        assert [item.locator(".rank").inner_text() for item in items.all()] == [str(rank) for rank, _ in ranks]
    arrows = region.locator("svg").last.locator("g")  # from fusion to rerank: all that are in both columns
    both = [set(chunks_of(region, name)) for name in ("fusion", "rerank")]
    assert arrows.count() == len(both[0] & both[1]) > 3


def chunks_of(region: Any, stage: str) -> list[str]:
    return [
        item.get_attribute("data-chunk")
        for item in region.get_by_role("list", name=f"Order of {stage}").locator("li").all()
    ]


def test_an_answer_cites_and_its_citations_lead_to_what_they_quote(opened: Opened, url: str) -> None:
    page = opened(q="What pumps blood through the body?", m="ask", c="demo")
    status(page).to_have_text(re.compile(r"^Answer from \d+ sources? in "))
    whole = httpx.post(
        f"{url}/v1/answer", json={"collection": "demo", "question": "What pumps blood through the body?"}
    ).json()
    answer = page.get_by_role("region", name="Answer")
    expect(answer).to_contain_text("The heart pumps blood through the body.")
    cites = answer.get_by_role("button", name=re.compile(r"^Source \d+$"))
    assert cites.count() == len(re.findall(r"\[\d+\]", whole["answer"])) > 0
    cites.first.click()
    focused = page.locator(".card:focus")
    expect(focused).to_have_attribute("data-chunk", whole["citations"][0]["chunk_id"])
    expect(focused.locator("mark").first).to_have_text("The heart pumps blood through the body.")


def test_a_question_without_an_answer_says_so(opened: Opened) -> None:
    page = opened(q="zxqv", m="ask", c="demo", p="bm25")
    status(page).to_have_text(re.compile("^No answer found"))
    expect(page.get_by_role("region", name="Sources", exact=True)).to_contain_text("No passage of this collection")


def test_words_are_highlighted_as_the_model_attended_to_them(opened: Opened, url: str) -> None:
    page = opened(q="what pumps blood?", m="search", c="demo", p="bm25")
    status(page).to_have_text(DONE)
    chunks = [card.get_attribute("data-chunk") or "" for card in page.locator(".card").all()]
    assert len(chunks) >= 2
    heart = page.locator(".card", has_text="The heart").first
    page.get_by_role("button", name="Words the model attended to").click()
    expect(heart.locator(".looked")).to_be_visible()
    assert set(heart.locator(".heat").all_inner_texts()) == {"pumps", "blood"}
    expect(heart.locator(".text")).to_contain_text("The heart pumps blood through the body.")
    tokens = rescored(url, chunks)["bio/heart#0"]
    words = {
        "pumps": sum(one["score"] for one in tokens if one["text"] in (" p", "u", "mp", "s")),
        "blood": sum(one["score"] for one in tokens if one["text"] in (" b", "lo", "od")),
    }
    said = dict(re.findall(r"(\w+) \(([\d.]+)\)", heart.locator(".looked").inner_text()))
    assert {word: float(score) for word, score in said.items()} == pytest.approx(words, abs=6e-4)


def rescored(url: str, chunks: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Tokens of the passages by the server, asked as the page asks."""
    known = {hit["chunk_id"]: hit for hit in searched(url, "what pumps blood?", "bm25", 30)}
    documents = [{"id": one, "title": known[one]["title"], "text": known[one]["text"]} for one in chunks]
    body = {"model": "icr", "query": "what pumps blood?", "documents": documents, "explain_tokens": True}
    return {one["id"]: one["tokens"] for one in httpx.post(f"{url}/v1/rerank", json=body).json()["results"]}


def test_terms_and_the_tree_of_the_search_are_those_of_the_server(opened: Opened, url: str) -> None:
    question = "Which organ cleans the blood?"
    page = opened(q=question, m="ask", c="demo", p="ask", s="mcts", b="60")
    status(page).to_have_text(DONE)
    body = {
        "collection": "demo",
        "question": question,
        "pipeline": "ask",
        "selector": "mcts",
        "budget": 60,
        "explain": True,
    }
    said = httpx.post(f"{url}/v1/answer", json=body).json()["selection"]
    why = page.get_by_role("region", name="Why these sources")
    expect(why).to_contain_text("mcts: ")
    rows = why.get_by_role("region", name="What each term says for the sources").locator("tbody tr")
    assert rows.count() == len(said["chosen"]) > 0
    gains = [float(row.locator("td").first.inner_text().replace("−", "-")) for row in rows.all()]
    assert all(abs(shown - one["gain"]) < 6e-4 for shown, one in zip(gains, said["chosen"], strict=True))
    expect(why.get_by_text(f"{len(said['rejected'])} candidates left out")).to_be_visible()
    tree = why.get_by_role("img", name=re.compile(f"^Search tree: {len(said['tree'])} sets"))
    nodes = tree.locator("circle").count()
    assert min(40, len(said["tree"])) <= nodes <= 80
    assert tree.locator("path").count() == nodes - 1  # an edge to every node but the root


def test_milliseconds_and_tokens_are_those_of_the_trace(opened: Opened) -> None:
    page = opened()
    page.get_by_role("combobox", name="Collection").first.select_option("demo")
    page.get_by_label("Question or query").fill("What pumps blood?")
    with page.expect_response("**/v1/answer") as caught:
        page.keyboard.press("Enter")
    status(page).to_have_text(DONE)
    text = caught.value.text()
    stages = re.findall(r'"stage":"([\w-]+)","time_ms":[\d.]+,"n_in":(\w+),"n_out":(\d+),"tokens":(\d+)', text)
    table = page.get_by_role("table", name="Time and tokens by stage")
    shown = [row.inner_text().split("\t")[0].strip() for row in table.locator("tbody tr").all()]
    assert [name.lower() for name in shown if name != "elsewhere"] == [stage for stage, *_ in stages]
    for stage, _, n_out, tokens in stages:
        row = table.locator("tbody tr", has=page.get_by_role("rowheader", name=re.compile(f"^{stage}$", re.IGNORECASE)))
        expect(row).to_contain_text(f"→ {n_out}")
        if int(tokens):
            expect(row).to_contain_text(f"{int(tokens):,} read")
    expect(page.get_by_text("No stage reused cached states of passages.")).to_be_visible()


def test_two_pipelines_stand_side_by_side(opened: Opened, url: str) -> None:
    page = opened(q="blood in the body", m="search", c="demo", p="bm25", vs="dense", k="6")
    left, right = (
        [hit["chunk_id"] for hit in searched(url, "blood in the body", name, 6)] for name in ("bm25", "dense")
    )
    both = len(set(left) & set(right))
    status(page).to_contain_text(f"{both} of 6 in both")
    columns = page.locator(".run")
    assert columns.count() == 2
    first, second = (column.bounding_box() for column in columns.all())
    assert first is not None
    assert second is not None
    assert first["y"] == second["y"]
    assert second["x"] > first["x"] + first["width"] - 1
    assert columns.first.get_by_text("only here").count() == len(left) - both
    change = page.get_by_role("region", name="From one order to the other").last
    assert change.locator("svg g").count() == both


def test_the_address_holds_the_question_and_back_goes_back(opened: Opened) -> None:
    page = opened(q="tides", m="search", c="demo", p="bm25")
    status(page).to_have_text(DONE)
    page.get_by_label("Question or query").fill("bread & light")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page).to_have_url(re.compile(r"q=bread\+%26\+light.*p=bm25"))
    expect(page.locator(".card").first).to_contain_text("Bread")
    page.go_back()
    expect(page.get_by_label("Question or query")).to_have_value("tides")
    expect(page.locator(".card").first).to_contain_text("Tides")


def test_what_came_from_the_cache_is_what_the_trace_says(
    opened: Opened, shown_home: Path, tmp_path: Path, make_engine: MakeEngine, serving: Serving
) -> None:
    engine = make_engine(
        Path(shutil.copytree(shown_home, tmp_path / "home")),
        model=ModelConfig(name=str(saved("llama")), device="cpu", dtype="float32"),
        cache=CacheConfig(mode="link-4", scheme="fp32"),
        pipelines=BUILT_IN | {"read": PipelineConfig(retrieve=("bm25",), rerank="icr")},
    )
    asked = {"collection": "demo", "query": "what pumps blood?", "pipeline": "read", "k": 30}
    with serving(engine) as running:
        _, second = (httpx.post(f"{running.url}/v1/search", json=asked, timeout=60).json()["trace"] for _ in range(2))
        page = opened(running.url, q="what pumps blood?", m="search", c="demo", p="read")
        status(page).to_have_text(DONE)
        reused = second["stages"][-1]["reused"]
        assert reused > 0
        expect(page.get_by_text(f"From the cache: rerank reused {reused} tokens (link-4)")).to_be_visible()
        row = page.get_by_role("table", name="Time and tokens by stage").locator("tbody tr", has_text="rerank")
        expect(row).to_contain_text(f"{reused} cached")
        page.close()

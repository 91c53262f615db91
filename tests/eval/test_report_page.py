"""The report is opened in a browser: all is seen, nothing is fetched, nothing runs out of a narrow window."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Request, sync_playwright

from tests.eval.test_cli import run
from tests.eval.test_compare import ONE, TWO, write_result

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
PLOTS = ("quality-latency", "quality-tokens", "differences", "stages")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of three systems with long names, costs and a note that is markup."""
    root = tmp_path_factory.mktemp("report")
    files = []
    systems = (("bm25", ONE, 4.0, 0.0), ("hybrid-of-two-retrievers-and-a-long-name", TWO, 35.0, 12.0))
    for name, lists, cost, tokens in (*systems, ("hybrid-reranked-by-attention", TWO, 900.0, 21_840.0)):
        file = write_result(root / f"{name}.json", lists)
        said = json.loads(file.read_text())
        said |= {
            "dataset": "tiny",
            "split": "test",
            "latency_ms": {"p50": cost, "p95": 2 * cost},
            "stages_ms": {
                "bm25": min(4.0, cost),
                "dense": max(0.0, cost - 4.0) / 2,
                "rerank": max(0.0, cost - 4.0) / 2,
            },
            "work": {"prefill_tokens": tokens, "decoded_tokens": 0.0},
            "command": f"kvasir-eval beir /a/long/path/of/a/folder/with/data --pipeline {name} --result {name}.json",
            "commit": "abc123",
            "hardware": "two cores",
            "versions": {"torch": "2.9", "numpy": "2.1"},
            "notes": ["<img src=http://127.0.0.1:9/x onerror='document.title=1'>"],
        }
        file.write_text(json.dumps(said))
        files.append(file)
    run("report", *files, "--out", root / "out", "-m", "RR@10 R@5", "--png", "--resamples", 200)
    return root / "out"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("THE REPORT'S PAGE IS NOT TESTED: there is no Chromium on the PATH")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_shows_all_plots_fetches_nothing_and_fits(browser: Browser, folder: Path, width: int) -> None:
    troubles: list[str] = []
    asked: list[str] = []

    def noted(message: ConsoleMessage) -> None:
        troubles.append(message.text)

    def sent(request: Request) -> None:
        asked.append(request.url)

    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("console", noted)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", sent)
    address = (folder / "report.html").as_uri()
    page.goto(address)
    page.screenshot(path=folder / f"page-{width}.png", full_page=True)
    plots = page.locator("figure > div")
    assert plots.count() == len(PLOTS)
    for number in range(plots.count()):
        box = plots.nth(number).bounding_box()
        assert box is not None
        assert box["width"] > 200
        assert box["height"] > 80
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    assert page.locator("figure svg").count() == len(PLOTS)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == "Evaluation on tiny test"
    assert page.get_by_text("onerror").count() == 3
    assert (troubles, asked) == ([], [address])
    page.close()


def test_plots_are_also_images_where_that_is_asked(browser: Browser, folder: Path) -> None:
    page = browser.new_page()
    for name in PLOTS:
        page.goto((folder / f"{name}.png").as_uri())
        size = page.evaluate("[document.images[0].naturalWidth, document.images[0].naturalHeight]")
        assert size[0] == 1280
        assert size[1] > 200
        image = folder / f"{name}.png"
        assert image.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    page.close()

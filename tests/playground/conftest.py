"""A real server over a small real collection, and a headless Chromium to look at its page with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from api.collections import Posted
from indexes.build import BuildSettings, build
from indexes.chunking import Chunking
from indexes.corpus import Document
from rag.config import ModelConfig
from tests.api.conftest import DOCUMENTS, MakeEngine, Serving, built_home, encoder, make_engine, serving

__all__ = ["built_home", "encoder", "make_engine", "serving"]

ATTACK = "<script>window.attacked = 1</script><img src=x onerror='window.attacked = 2'>"
LONG = "Donaudampfschifffahrts" * 12
HOSTILE = (
    Document('x"><svg onload=alert(1)>', f"Title {ATTACK}", f"An attack on markup: {ATTACK} & 'quotes' &lt;b&gt;.", {}),
    Document("it's", "A quote's id", "An attack on quotes in an id that holds one.", {}),
    Document("long", LONG, f"The word {LONG} is long.", {}),
    Document("arabic", "القلب", "القلب يضخ الدم في الجسم كله.", {}),
)
MORE = tuple(
    Document(f"organ/{name}", name.capitalize(), f"The {name} is an organ of the body. {does}", {})
    for name, does in {
        "liver": "It cleans the blood and stores sugar.",
        "lung": "It takes oxygen from the air and gives it to the blood.",
        "kidney": "It filters the blood and makes urine. Blood flows through it all the time.",
        "skin": "It keeps water in and light out.",
    }.items()
)

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
Opened = Callable[..., Page]


@pytest.fixture(scope="package")
def shown_home(tmp_path_factory: pytest.TempPathFactory, make_engine: MakeEngine) -> Path:
    home = tmp_path_factory.mktemp("shown")
    engine = make_engine(home)
    documents = (*DOCUMENTS, *MORE, *HOSTILE)
    build(engine.home, "demo", Posted(documents), engine.encoder, BuildSettings(chunking=Chunking("whole")))
    return home


@pytest.fixture(scope="package")
def url(shown_home: Path, make_engine: MakeEngine, serving: Serving) -> Iterator[str]:
    with serving(make_engine(shown_home, model=ModelConfig(name="lexical"))) as running:
        yield running.url


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("THE PLAYGROUND IS NOT TESTED: there is no Chromium on the PATH")
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def troubles() -> list[str]:
    """What the browser complained about; empty at the end, unless the test has taken out what it provoked."""
    return []


@pytest.fixture
def opened(browser: Browser, url: str, troubles: list[str]) -> Iterator[Opened]:
    """Opens the page with a question in its address; requests to other hosts and errors on the console are faults."""
    contexts: list[BrowserContext] = []

    def open_page(at: str = "", *, width: int = 1280, scheme: Any = "light", **asked: str) -> Page:
        base = at or url
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("console", lambda message: _heard(message, troubles))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: troubles.extend(_elsewhere(request.url, base)))
        page.goto(f"{base}/" + (f"#{urlencode(asked)}" if asked else ""))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def _heard(message: ConsoleMessage, troubles: list[str]) -> None:
    if message.type in ("error", "warning"):
        troubles.append(message.text)


def _elsewhere(asked: str, base: str) -> list[str]:
    return [] if urlsplit(asked).netloc == urlsplit(base).netloc else [f"another host: {asked}"]

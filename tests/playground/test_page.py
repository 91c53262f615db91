"""The page as a page: small, its own, safe, and usable by keyboard, screen reader, in the dark and on a telephone."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from rag.config import ModelConfig
from rag.keys import KeyFile
from tests.api.conftest import MakeEngine, Serving
from tests.playground.conftest import ATTACK, LONG, Opened

DONE = re.compile(r" in [\d.,]+ m?s")
ASKED = {"q": "What pumps blood through the body?", "m": "ask", "c": "demo", "p": "ask", "s": "search", "b": "200"}


def answered(page: Page) -> Page:
    expect(page.get_by_role("status").first).to_have_text(DONE)
    return page


# --- what is loaded ---


def test_all_of_it_is_less_than_200_kilobytes(opened: Opened) -> None:
    asked: set[str] = set()
    page = opened()
    page.on("request", lambda request: asked.add(request.url))
    page.reload(wait_until="networkidle")
    sizes = {url: len(httpx.get(url).content) for url in asked}
    assert len(sizes) > 8
    assert sum(sizes.values()) < 200_000


def test_files_are_sent_again_only_where_they_have_changed(url: str) -> None:
    first = httpx.get(f"{url}/")
    again = httpx.get(f"{url}/", headers={"if-none-match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert httpx.get(f"{url}/", headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/playground/main.js", "/playground/style.css"])
def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere(url: str, path: str) -> None:
    policy = httpx.get(f"{url}{path}").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("name", ["nothing.js", "..%2froutes.py", "%2e%2e", "__init__.py"])
def test_only_files_of_the_page_are_served(url: str, name: str) -> None:
    assert httpx.get(f"{url}/playground/{name}").status_code == 404


# --- text is text ---


@pytest.mark.parametrize("mode", ["search", "ask"])
def test_markup_in_documents_stays_text(opened: Opened, mode: str) -> None:
    page = answered(opened(q="attack on markup quotes id", m=mode, c="demo", s="search" if mode == "ask" else ""))
    card = page.locator(".card", has_text="attack on markup").first
    expect(card.locator("h4")).to_have_text(f"Title {ATTACK}")
    page.get_by_role("button", name="Words the model attended to").click()
    expect(card.locator(".looked")).to_be_visible()
    assert page.evaluate("() => window.attacked") is None
    assert page.locator("main img, main script, main svg[onload]").count() == 0


def test_markup_in_the_address_stays_text(opened: Opened) -> None:
    page = opened(q=ATTACK, m="search", c="demo", p=ATTACK)
    answered(page)
    expect(page.get_by_label("Question or query")).to_have_value(ATTACK)
    assert page.evaluate("() => window.attacked") is None


def test_scripts_put_no_text_into_markup() -> None:
    folder = Path(__file__).parents[2] / "api" / "playground" / "assets"
    banned = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://(?!www\.w3)"
    )
    assert [path.name for path in folder.iterdir() if banned.search(path.read_text())] == []


# --- by keyboard ---


def test_everything_can_be_done_by_keyboard(opened: Opened) -> None:
    page = opened()
    expect(page.get_by_role("combobox", name="Collection").first.locator("option")).not_to_have_count(0)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to results")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Results", exact=True)).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Question or query")).to_be_focused()
    page.keyboard.type("blood in the body/heart")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Search")).to_be_checked()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    answered(page)
    expect(page.get_by_label("Question or query")).to_have_value("blood in the body/heart")


def test_arrows_move_between_passages(opened: Opened) -> None:
    page = answered(opened(q="blood", m="search", c="demo", p="dense", k="4"))
    cards = page.locator(".card")
    cards.first.focus()
    for key, place in [("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("End", 3), ("ArrowDown", 3), ("Home", 0)]:
        page.keyboard.press(key)
        expect(cards.nth(place)).to_be_focused()
    assert [card.get_attribute("tabindex") for card in cards.all()] == ["0", "-1", "-1", "-1"]


# --- by screen reader ---


def nodes(page: Page) -> list[dict[str, Any]]:
    """The accessibility tree, as the browser gives it to screen readers."""
    session = page.context.new_cdp_session(page)
    found: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    return [one for one in found if not one.get("ignored")]


def test_everything_that_is_used_has_a_name(opened: Opened) -> None:
    page = answered(opened(**ASKED))
    used = {
        "button",
        "link",
        "textbox",
        "searchbox",
        "combobox",
        "radio",
        "spinbutton",
        "img",
        "region",
        "table",
        "search",
    }
    nameless = [
        one["role"]["value"] for one in nodes(page)
        if one["role"]["value"] in used and not one.get("name", {}).get("value", "").strip()
    ]  # fmt: skip
    assert nameless == []


def test_landmarks_headings_and_live_regions(opened: Opened) -> None:
    page = answered(opened(**ASKED))
    roles = [one["role"]["value"] for one in nodes(page)]
    for role in ("banner", "main", "navigation", "search", "contentinfo", "status"):
        assert roles.count(role) >= 1, role
    levels = [int(heading.evaluate("node => node.tagName[1]")) for heading in page.get_by_role("heading").all()]
    assert levels[0] == 1
    assert all(below <= above + 1 for above, below in pairwise(levels)), levels
    snapshot = page.locator("main").aria_snapshot()
    for expected in (
        'search "Ask or search a collection"',
        'region "Answer"',
        'region "Sources"',
        "rowheader",
        "columnheader",
    ):
        assert expected in snapshot


# --- colours ---


def luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


TEXTS = """() => {
  const seen = [];
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!colour.startsWith("rgba(") ) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    const style = getComputedStyle(node);
    if (!walk.currentNode.data.trim() || !node.checkVisibility() || node instanceof SVGElement) continue;
    if (/^(SCRIPT|STYLE|OPTION)$/.test(node.tagName)) continue;
    seen.push([walk.currentNode.data.trim().slice(0, 40), style.color, ground(node)]);
  }
  return seen;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(opened: Opened, scheme: str) -> None:
    page = answered(opened(scheme=scheme, **ASKED))
    texts = page.evaluate(TEXTS)
    assert len(texts) > 60
    assert [(text, colour, ground) for text, colour, ground in texts if contrast(colour, ground) < 4.5] == []


def test_the_contrast_of_black_on_white_is_21() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21.0)
    assert contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") == pytest.approx(4.48, abs=0.01)


def ground(page: Page) -> float:
    return luminance(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))


def test_dark_follows_the_system_and_can_be_chosen(opened: Opened) -> None:
    assert ground(opened(scheme="dark")) < 0.05
    page = opened(scheme="light")
    assert ground(page) > 0.8
    page.get_by_role("button", name="Switch to dark colours").click()
    assert ground(page) < 0.05
    page.reload()
    assert ground(page) < 0.05
    page.get_by_role("button", name="Switch to light colours").click()
    assert ground(page) > 0.8


# --- sizes and scripts ---


@pytest.mark.parametrize("width", [375, 768, 1280])
def test_nothing_is_wider_than_the_screen(opened: Opened, width: int) -> None:
    page = answered(opened(width=width, **ASKED | {"q": f"long word {LONG[:60]} blood"}))
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page = answered(opened(width=width, q=f"long word {LONG[:22]}", m="search", c="demo", p="dense"))
    expect(page.locator(".card", has_text=LONG).first).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_text_runs_in_its_own_direction(opened: Opened) -> None:
    page = answered(opened(q="القلب يضخ الدم", m="search", c="demo", p="hybrid"))
    directions = "node => getComputedStyle(node).direction"
    assert page.locator(".card", has_text="القلب").first.locator(".text").evaluate(directions) == "rtl"
    assert page.locator(".card .text", has_text="blood").first.evaluate(directions) == "ltr"
    assert page.get_by_label("Question or query").evaluate(directions) == "rtl"


# --- what goes wrong ---


def test_an_error_says_what_to_do(opened: Opened, troubles: list[str]) -> None:
    page = opened()
    expect(page.get_by_role("combobox", name="Collection").first.locator("option")).not_to_have_count(0)
    page.get_by_label("Question or query").fill("x" * 9000)
    page.evaluate("() => document.getElementById('query').removeAttribute('maxlength')")
    page.evaluate("() => { document.getElementById('query').value = 'x'.repeat(9000); }")
    page.get_by_role("button", name="Ask", exact=True).click()
    problem = page.locator(".problem")
    expect(problem).to_contain_text("the limit is 8192")
    expect(problem).to_contain_text("Change what is named and try again.")
    assert [text for text in troubles if "422" not in text] == []
    troubles.clear()


def test_a_server_without_collections_says_how_to_make_one(
    opened: Opened, tmp_path: Path, make_engine: MakeEngine, serving: Serving
) -> None:
    with serving(make_engine(tmp_path / "empty")) as running:
        page = opened(running.url)
        expect(page.get_by_text("No collection yet.")).to_be_visible()
        expect(page.get_by_label("Files")).to_be_visible()
        page.close()


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(
    opened: Opened, shown_home: Path, tmp_path: Path, make_engine: MakeEngine, serving: Serving, troubles: list[str]
) -> None:
    home = tmp_path / "home"
    shutil.copytree(shown_home, home)
    _, secret = KeyFile(home).create("reader", "read")
    with serving(make_engine(home, model=ModelConfig(name="lexical"))) as running:
        page = opened(running.url, q="tides", m="search", c="demo", p="bm25")
        expect(page.get_by_role("alert").first).to_contain_text("Enter an API key")
        expect(page.get_by_role("link", name="Metrics")).to_be_hidden()
        page.get_by_label("Key, kept until this tab is closed").fill(secret)
        page.get_by_role("button", name="Use").click()
        answered(page)
        expect(page.locator(".card").first).to_contain_text("Tides")
        expect(page.get_by_role("link", name="Metrics")).to_be_hidden()
        kept = page.evaluate(
            "() => [JSON.stringify({...sessionStorage}), JSON.stringify({...localStorage}), location.href]"
        )
        assert [secret in place for place in kept] == [True, False, False]
        assert json.loads(kept[0]) == {"kvasir-key": secret}
        page.close()
    assert all("401" in text for text in troubles)
    troubles.clear()


# --- adding documents ---


def files(folder: Path) -> list[Path]:
    """A Markdown file, two rows, and a file that nobody can read."""
    (folder / "moss.md").write_text("# Moss\n\nMoss grows on the north side of old walls.")
    rows = [
        {"id": "fern", "title": "Ferns", "text": "Ferns have no flowers; spores carry them on."},
        {"id": "alga", "text": "Algae live in water."},
    ]
    (folder / "green.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "odd.pdf").write_bytes(b"no PDF at all")
    return [folder / "moss.md", folder / "green.jsonl", folder / "odd.pdf"]


def test_files_become_a_collection_that_can_be_searched(
    opened: Opened, shown_home: Path, tmp_path: Path, make_engine: MakeEngine, serving: Serving
) -> None:
    home = tmp_path / "home"
    shutil.copytree(shown_home, home)
    with serving(make_engine(home)) as running:
        page = opened(running.url)
        page.get_by_text("Add documents").click()
        page.get_by_label("Collection, a new name makes a new one").fill("greens")
        page.get_by_label("Files").set_input_files(files(tmp_path))
        page.get_by_role("button", name="Add", exact=True).click()
        jobs = page.locator("#jobs")
        expect(jobs).to_contain_text("greens is ready.", timeout=60_000)
        jobs.get_by_text("1 file or row left out").click()
        expect(jobs).to_contain_text("odd.pdf")
        expect(page.get_by_role("combobox", name="Collection").first).to_have_value("greens")
        page.get_by_role("radio", name="Search").check(force=True)
        page.get_by_label("Question or query").fill("what grows on walls?")
        page.keyboard.press("Enter")
        answered(page)
        expect(page.locator(".card").first).to_contain_text("Moss grows on the north side")
        assert httpx.get(f"{running.url}/v1/collections/greens").json()["documents"] == 3
        page.close()


def test_a_job_that_runs_is_found_again_and_can_be_cancelled(
    opened: Opened, shown_home: Path, tmp_path: Path, make_engine: MakeEngine, serving: Serving
) -> None:
    home = tmp_path / "home"
    shutil.copytree(shown_home, home)
    many = "\n".join(json.dumps({"id": str(i), "text": f"Sentence {i}. " * 200}) for i in range(2000))
    with serving(make_engine(home)) as running:
        sent = httpx.post(
            f"{running.url}/v1/jobs?collection=many", content=many, headers={"content-type": "application/x-ndjson"}
        )
        page = opened(running.url)
        page.get_by_text("Add documents").click()
        jobs = page.locator("#jobs")
        expect(jobs.get_by_role("progressbar", name="Progress of many")).to_be_visible()
        jobs.get_by_role("button", name="Cancel").click()
        expect(jobs).to_contain_text("many: cancelled.")
        assert httpx.get(f"{running.url}/v1/jobs/{sent.json()['id']}").json()["state"] == "cancelled"
        page.close()

"""The dashboard and the scrape configuration speak of what the server really shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api.conftest import Client

DEPLOY = Path(__file__).parents[2] / "deploy"
PROVISIONING = DEPLOY / "grafana" / "provisioning"
DASHBOARD: dict[str, Any] = json.loads((PROVISIONING / "dashboards" / "json" / "kvasir.json").read_text())
ONLY_WITH_A_GPU = {"kvasir_torch_memory_bytes"}


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (one["query"]["query"] for one in DASHBOARD["templating"]["list"])


@pytest.fixture(scope="module")
def shown(client: Client) -> dict[str, str]:
    """The kinds of all metrics by name, from the comments that every one has."""
    client.get("/health")
    return dict(re.findall(r"^# TYPE (\w+) (\w+)$", client.get("/metrics").text, re.MULTILINE))


def test_every_metric_of_the_dashboard_is_one_the_server_shows(shown: dict[str, str]) -> None:
    named = {name for text in expressions() for name in re.findall(r"\b(?:kvasir|process)_\w+", text)}
    assert len(named) > 12
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) if name not in shown else name for name in named}
    assert bare - set(shown) <= ONLY_WITH_A_GPU


def test_counters_are_seen_as_rates_and_gauges_as_they_are(shown: dict[str, str]) -> None:
    for text in expressions():
        for name in re.findall(r"\bkvasir_\w+", text):
            rated = re.search(rf"rate\({name}", text) is not None
            counts = shown.get(re.sub(r"_(bucket|sum|count)$", "", name), shown.get(name)) in ("counter", "histogram")
            assert rated == counts or "label_values" in text, text


def test_labels_of_the_dashboard_are_labels_of_the_metrics(client: Client) -> None:
    client.post("/v1/search", json={"collection": "demo", "query": "x"})
    client.get("/no/such/route")
    text = client.get("/metrics").text
    have = set(re.findall(r'[{,](\w+)="', text)) | {"job", "device", "state", "tier"}
    used = {label for text in expressions() for by in re.findall(r"by \(([^)]*)\)", text) for label in by.split(", ")}
    assert used <= have


def test_panels_do_not_overlap() -> None:
    seen: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & seen
        assert at["x"] + at["w"] <= 24
        seen |= cells


def test_the_files_name_each_other() -> None:
    [source] = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "datasource" in panel} == {source["uid"]}
    [provider] = yaml.safe_load((PROVISIONING / "dashboards" / "kvasir.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/provisioning/dashboards/json"
    [job] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["api:8080"]}]

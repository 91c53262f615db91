"""Jobs through the API: sent, followed, cancelled, repeated, and what they leave."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from api.app import create_app
from rag.config import JobsConfig
from rag.keys import KeyFile
from tests.api.conftest import Client, MakeEngine, Serving, assert_problem, built_home, encoder, make_engine, serving

__all__ = ["built_home", "encoder", "make_engine", "serving"]

JSONL = {"content-type": "application/x-ndjson"}
Body = dict[str, Any]


def rows(names: list[str], text: str = "light of {name}") -> bytes:
    return "".join(json.dumps({"id": name, "text": text.format(name=name)}) + "\n" for name in names).encode()


def over(client: Any, job: Body, headers: dict[str, str] | None = None, seconds: float = 120) -> Body:
    """The job once it is over."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        found: Body = client.get(f"/v1/jobs/{job['id']}", headers=headers or {}).json()
        if found["state"] in ("done", "failed", "cancelled"):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def gone(path: Path) -> bool:
    """True once it is; the end of a job is told before its files go."""
    end = time.perf_counter() + 10
    while path.exists() and time.perf_counter() < end:
        time.sleep(0.02)
    return not path.exists()


def ids(client: Any, collection: str, headers: dict[str, str] | None = None) -> list[str]:
    listed = client.get(f"/v1/collections/{collection}/documents?limit=1000", headers=headers or {}).json()
    return [one["id"] for one in listed["documents"]]


@pytest.fixture
def home(built_home: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(built_home, tmp_path / "home"))


@pytest.fixture
def client(home: Path, make_engine: MakeEngine) -> Iterator[Client]:
    with TestClient(create_app(make_engine(home))) as opened:
        yield opened


def test_rows_become_a_new_collection(client: Client) -> None:
    sent = client.post("/v1/jobs?collection=fresh", content=rows(["a", "b"]), headers=JSONL)
    assert sent.status_code == 202, sent.text
    job = sent.json()
    assert sent.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["source"], job["mode"], job["version"]) == ("queued", "rows", "add", None)
    done = over(client, job)
    assert (done["state"], done["version"], done["skipped"], done["error"]) == ("done", 1, 0, "")
    assert ids(client, "fresh") == ["a", "b"]
    found = client.post("/v1/search", json={"collection": "fresh", "query": "light of b", "pipeline": "hybrid"}).json()
    assert {hit["document_id"] for hit in found["results"]} == {"a", "b"}


def test_files_of_all_kinds_are_added_and_the_unreadable_is_logged(client: Client, home: Path) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"0" * (64 * 2**20))
    files = [
        ("files", ("notes/leaf.txt", b"A leaf is green.")),
        ("files", ("page.html", b"<title>Page</title><p>The moon.</p>")),
        ("files", ("more.jsonl", rows(["x", "y"]) + b"{broken\n")),
        ("files", ("bomb.docx", bomb.getvalue())),
        ("files", ("music.mp3", b"ID3")),
    ]
    before = ids(client, "demo")
    done = over(client, client.post("/v1/jobs?collection=demo", files=files).json())
    assert (done["state"], done["skipped"], done["version"]) == ("done", 3, 2), done
    assert ids(client, "demo") == sorted([*before, "notes/leaf.txt", "page.html", "x", "y"])
    log = client.get(f"/v1/jobs/{done['id']}/skipped").json()
    where = {entry["where"]: entry["why"] for entry in log["skipped"]}
    assert set(where) == {"more.jsonl:line 3", "bomb.docx", ". (1 file)"}, where
    assert "would unpack" in where["bomb.docx"]
    assert str(home) not in str(log)
    first = client.get(f"/v1/jobs/{done['id']}/skipped?limit=2").json()
    assert len(first["skipped"]) == 2
    rest = client.get(f"/v1/jobs/{done['id']}/skipped?after={first['next']}").json()
    assert first["skipped"] + rest["skipped"] == log["skipped"]
    assert gone(home / "jobs" / done["id"]), "what was sent is not kept"


def test_adding_replaces_by_id_and_replacing_leaves_nothing_else(client: Client) -> None:
    over(client, client.post("/v1/jobs?collection=c", content=rows(["a", "b"]), headers=JSONL).json())
    twice = rows(["b", "c"], "moon of {name}") + rows(["c"], "never seen")
    added = over(client, client.post("/v1/jobs?collection=c", content=twice, headers=JSONL).json())
    assert (added["version"], added["skipped"]) == (2, 1)
    assert ids(client, "c") == ["a", "b", "c"]
    texts = [client.get(f"/v1/collections/c/documents/{name}").json()["text"] for name in "abc"]
    assert texts == ["light of a", "moon of b", "moon of c"]
    found = client.post("/v1/search", json={"collection": "c", "query": "moon", "pipeline": "bm25"}).json()["results"]
    assert sorted(hit["document_id"] for hit in found) == ["b", "c"]
    replaced = client.post("/v1/jobs?collection=c&mode=replace", content=rows(["z"]), headers=JSONL).json()
    assert over(client, replaced)["version"] == 3
    assert ids(client, "c") == ["z"]


def test_an_alias_means_its_collection(client: Client, home: Path, make_engine: MakeEngine) -> None:
    make_engine(home).home.set_alias("prod", "demo")
    job = client.post("/v1/jobs?collection=prod", content=rows(["a"]), headers=JSONL).json()
    assert over(client, job)["collection"] == "demo"
    assert "a" in ids(client, "demo")


def test_the_same_key_and_request_make_one_job(client: Client) -> None:
    headers = JSONL | {"idempotency-key": "once"}
    first = client.post("/v1/jobs?collection=c", content=rows(["a"]), headers=headers)
    again = client.post("/v1/jobs?collection=c", content=rows(["a"]), headers=headers)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    for path, content in (("c", rows(["b"])), ("d", rows(["a"])), ("c&mode=replace", rows(["a"]))):
        other = client.post(f"/v1/jobs?collection={path}", content=content, headers=headers)
        assert_problem(other, 422, "idempotency_key_reused")
    assert len(client.get("/v1/jobs").json()["jobs"]) == 1
    over(client, first.json())
    form = {"idempotency-key": "form"}
    sent = [  # another boundary each time
        client.post("/v1/jobs?collection=e", files=[("files", ("a.txt", b"green"))], headers=form) for _ in range(2)
    ]
    assert sent[0].json()["id"] == sent[1].json()["id"]
    over(client, sent[0].json())


def test_jobs_are_listed_from_the_newest(client: Client) -> None:
    sent = [
        over(client, client.post(f"/v1/jobs?collection=c{n}", content=rows(["a"]), headers=JSONL).json())["id"]
        for n in range(3)
    ]
    page = client.get("/v1/jobs?limit=2").json()
    assert [job["id"] for job in page["jobs"]] == sent[:0:-1]
    rest = client.get(f"/v1/jobs?before={page['next']}").json()
    assert ([job["id"] for job in rest["jobs"]], rest["next"]) == (sent[:1], None)


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "..\\evil.txt", ".hidden", "a\x00.txt"]
)
def test_names_that_lead_elsewhere_are_refused(client: Client, home: Path, name: str) -> None:
    head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\nx\r\n--b--\r\n'
    type_ = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/jobs?collection=c", content=head.encode(), headers=type_)
    assert answer.status_code in (400, 422), answer.text
    assert not list(home.rglob("*evil*"))
    assert [path.name for path in (home / "jobs").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"", "application/octet-stream", 422),
        (b"", "multipart/form-data", 400),
        (b"--b\r\n", "multipart/form-data; boundary=b", 400),
        (b"--b--\r\n", "multipart/form-data; boundary=b", 422),
        (
            b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            422,
        ),
        (b"{", "application/json", 400),
        (b"{}", "application/json", 422),
        (b'{"folder": "/etc"}', "application/json", 422),
    ],
)
def test_bodies_that_are_none_are_refused_and_leave_nothing(
    client: Client, home: Path, content: bytes, content_type: str, status: int
) -> None:
    answer = client.post("/v1/jobs?collection=c", content=content, headers={"content-type": content_type})
    assert_problem(answer, status)
    assert client.get("/v1/jobs").json()["jobs"] == []
    assert [path.name for path in (home / "jobs").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    "query", ["", "?collection=", "?collection=..", "?collection=c&mode=x", "?collection=c&chunking=x"]
)
def test_what_a_job_is_for_is_checked_first(client: Client, query: str) -> None:
    assert_problem(client.post(f"/v1/jobs{query}", content=rows(["a"]), headers=JSONL), 422)


def test_a_job_that_cannot_be_done_says_why(client: Client) -> None:
    empty = over(client, client.post("/v1/jobs?collection=c", content=b"not json\n", headers=JSONL).json())
    assert empty["state"] == "failed"
    assert "holds no document" in empty["error"]
    assert_problem(client.get("/v1/collections/c"), 404)
    assert_problem(client.get("/v1/jobs/nothing"), 404, "job_not_found")
    assert_problem(client.delete("/v1/jobs/nothing"), 404, "job_not_found")
    assert client.delete(f"/v1/jobs/{empty['id']}").json()["state"] == "failed"


def test_uploads_end_at_their_bounds(home: Path, make_engine: MakeEngine) -> None:
    jobs = JobsConfig(max_upload_mb=1, max_files=2, max_documents=3)
    with TestClient(create_app(make_engine(home, jobs=jobs))) as client:
        large = client.post("/v1/jobs?collection=c", content=b"x" * (2**20 + 1), headers=JSONL)
        assert_problem(large, 413, "upload_too_large")
        streamed = client.post("/v1/jobs?collection=c", content=iter([b"x" * 2**20] * 3), headers=JSONL)
        assert_problem(streamed, 413, "upload_too_large")
        many = [("files", (f"{n}.txt", b"x")) for n in range(3)]
        assert client.post("/v1/jobs?collection=c", files=many).status_code in (400, 413)
        documents = client.post("/v1/jobs?collection=c", content=rows(list("abcd")), headers=JSONL).json()
        assert "more than 3 documents" in over(client, documents)["error"]
        same = client.post("/v1/jobs?collection=c", files=[("files", ("a.txt", b"x"))] * 2)
        assert_problem(same, 422)
    full = JobsConfig(min_free_mb=10**9)
    with TestClient(create_app(make_engine(home, jobs=full))) as client:
        assert_problem(client.post("/v1/jobs?collection=c", content=rows(["a"]), headers=JSONL), 507)
    assert [path.name for path in (home / "jobs").iterdir() if path.is_dir()] == []


def test_more_jobs_than_may_wait_are_told_to_come_back(home: Path, make_engine: MakeEngine) -> None:
    with TestClient(create_app(make_engine(home, jobs=JobsConfig(queued=1, running=0)))) as client:
        once = JSONL | {"idempotency-key": "once"}
        assert client.post("/v1/jobs?collection=c", content=rows(["a"]), headers=once).status_code == 202
        assert client.post("/v1/jobs?collection=c", content=rows(["a"]), headers=once).status_code == 200
        assert client.post("/v1/jobs?collection=c", content=b"", headers={}).status_code == 429, "before the body"
        refused = client.post("/v1/jobs?collection=d", content=rows(["a"]), headers=JSONL)
        assert_problem(refused, 429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        waiting = client.get("/v1/jobs").json()["jobs"][0]
        assert (home / "jobs" / waiting["id"]).is_dir()
        assert client.delete(f"/v1/jobs/{waiting['id']}").json()["state"] == "cancelled"
        assert not list((home / "jobs").glob(f"{waiting['id']}*")), "nothing of it waits for the sweep"


def test_folders_of_the_settings_and_no_others(home: Path, make_engine: MakeEngine, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "deep").mkdir(parents=True)
    outside.mkdir()
    (root / "deep" / "a.txt").write_text("light")
    (root / "rows.jsonl").write_bytes(rows(["r"]))
    (outside / "secret.txt").write_text("secret")
    (root / "way").symlink_to(outside)
    (root / "file.txt").symlink_to(outside / "secret.txt")
    with TestClient(create_app(make_engine(home, jobs=JobsConfig(folders=(str(root),))))) as client:

        def send(folder: str) -> Any:
            return client.post("/v1/jobs?collection=c&mode=replace", json={"folder": folder})

        done = over(client, send(str(root)).json())
        assert (done["state"], done["source"]) == ("done", "folder")
        assert ids(client, "c") == ["deep/a.txt", "r"]
        assert str(root) not in client.get(f"/v1/jobs/{done['id']}/skipped").text
        assert over(client, send("deep").json())["state"] == "done"
        assert ids(client, "c") == ["a.txt"]
        odd = ("a\0b", "a" * 5000, "a/" * 3000)
        refused = [
            send(folder) for folder in (str(outside), "../outside", "way", f"{root}/../outside", "/", "nowhere", *odd)
        ]
        assert {assert_problem(one, 422)["detail"].partition(" is none ")[2] for one in refused} == {
            "that jobs may read; whoever runs the server names them in [jobs] folders"
        }


def test_jobs_of_tenants_and_keys_are_their_own(home: Path, make_engine: MakeEngine) -> None:
    file = KeyFile(home)
    keys = {
        name: {"x-api-key": file.create(name, "write", **more)[1]}  # type: ignore[arg-type]
        for name, more in {
            "whole": {}, "narrow": {"collections": ["mine"]}, "a": {"tenant": "a"}, "b": {"tenant": "b"},
        }.items()
    }  # fmt: skip
    with TestClient(create_app(make_engine(home))) as client:
        sent = {}
        for name, headers in keys.items():
            collection = "mine" if name in ("narrow", "a", "b") else "theirs"
            answer = client.post(
                f"/v1/jobs?collection={collection}",
                content=rows([name]),
                headers=JSONL | headers | {"idempotency-key": "k"},
            )
            assert answer.status_code == 202, answer.text
            sent[name] = over(client, answer.json(), headers)
            assert sent[name]["state"] == "done"
        for name, sees in (("whole", {"whole", "narrow"}), ("narrow", {"narrow"}), ("a", {"a"}), ("b", {"b"})):
            listed = {job["id"] for job in client.get("/v1/jobs", headers=keys[name]).json()["jobs"]}
            assert listed == {sent[other]["id"] for other in sees}, name
            for other, job in sent.items():
                for path in ("", "/skipped", "/events"):
                    status = client.get(f"/v1/jobs/{job['id']}{path}", headers=keys[name]).status_code
                    assert status == (200 if other in sees else 404), (name, other, path)
                if other not in sees:
                    assert client.delete(f"/v1/jobs/{job['id']}", headers=keys[name]).status_code == 404
        assert ids(client, "mine", keys["a"]) == ["a"]
        assert ids(client, "mine", keys["narrow"]) == ["narrow"]
        hidden = client.post("/v1/jobs?collection=theirs", content=rows(["x"]), headers=JSONL | keys["narrow"])
        assert_problem(hidden, 404, "collection_not_found")


def test_damaged_jobs_of_a_tenant_are_nobody_elses_trouble(
    home: Path, make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    file = KeyFile(home)
    key = {name: {"x-api-key": file.create(name, "admin", tenant=name)[1]} for name in ("a", "b")}
    damaged = home / "tenants" / "a" / "jobs" / "jobs.sqlite"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"garbage" * 1000)
    with TestClient(create_app(make_engine(home, server={"open_metrics": True}))) as client:
        sent = client.post("/v1/jobs?collection=c", content=rows(["x"]), headers=JSONL | key["b"]).json()
        assert over(client, sent, key["b"], seconds=30)["state"] == "done"
        counted = client.get("/metrics")
        assert (counted.status_code, "tenants" in counted.text) == (200, False)
        assert 'kvasir_jobs{state="done"} 1.0' in counted.text
        refused = client.post("/v1/jobs?collection=c", content=rows(["x"]), headers=JSONL | key["a"])
        assert_problem(refused, 503)
    told = [one.getMessage() for one in caplog.records if one.name == "rag.jobs.runner"]
    assert len([line for line in told if line.startswith("jobs of tenant a rest: ")]) == 1, told


def test_a_key_of_an_alias_sends_through_it_and_learns_no_other_name(home: Path, make_engine: MakeEngine) -> None:
    engine = make_engine(home)
    engine.home.set_alias("prod", "demo")
    key = {"x-api-key": KeyFile(home).create("one", "write", collections=["prod"])[1]}
    whole = {"x-api-key": KeyFile(home).create("whole", "read")[1]}
    other = {"x-api-key": KeyFile(home).create("two", "write", collections=["other"])[1]}
    with TestClient(create_app(engine)) as client:
        sent = client.post("/v1/jobs?collection=prod", content=rows(["a"]), headers=JSONL | key)
        assert (sent.status_code, sent.json()["collection"]) == (202, "prod")
        job = sent.json()
        assert over(client, job, key)["state"] == "done"
        texts = [
            client.get(path, headers=key).text
            for path in ("/v1/jobs", f"/v1/jobs/{job['id']}", f"{sent.headers['location']}/events")
        ]
        assert all(job["id"] in text and "prod" in text and "demo" not in text for text in texts), texts
        assert client.get("/v1/jobs", headers=other).json()["jobs"] == []
        hidden = client.post("/v1/jobs?collection=demo", content=rows(["a"]), headers=JSONL | key)
        assert_problem(hidden, 404, "collection_not_found")
        assert "a" in ids(client, "demo", whole)


def test_folders_are_for_admins_of_no_tenant(home: Path, make_engine: MakeEngine, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    file = KeyFile(home)
    made = {
        "admin": file.create("admin", "admin"), "write": file.create("write", "write"),
        "acme": file.create("acme", "admin", tenant="acme"),
    }  # fmt: skip
    jobs = JobsConfig(folders=(str(tmp_path / "root"),), running=0)
    with TestClient(create_app(make_engine(home, jobs=jobs))) as client:
        for name, (_, secret) in made.items():
            headers = {"x-api-key": secret, "content-type": "application/json; charset=utf-8"}
            body = json.dumps({"folder": str(tmp_path / "root")}).encode()
            answer = client.post("/v1/jobs?collection=c", content=body, headers=headers)
            if name == "admin":
                assert answer.status_code == 202, answer.text
            else:
                assert_problem(answer, 403, "not_allowed")


def events_of(text: str) -> list[tuple[int, str, Body]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if lines:
            found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


def test_a_job_is_followed_to_its_end_and_on_from_where_one_was(
    home: Path, make_engine: MakeEngine, serving: Serving
) -> None:
    with serving(make_engine(home)) as running, httpx.Client(base_url=running.url, timeout=60) as client:
        content = rows([f"d{n}" for n in range(60)])
        job = client.post("/v1/jobs?collection=c", content=content, headers=JSONL).json()
        followed = client.get(f"/v1/jobs/{job['id']}/events")
        assert followed.headers["content-type"].startswith("text/event-stream")
        seen = events_of(followed.text)
        assert [one[0] for one in seen] == sorted({one[0] for one in seen})
        assert (seen[-1][1], seen[-1][2]["state"]) == ("end", "done")
        assert {name for _, name, _ in seen[:-1]} <= {"progress"}
        late = events_of(client.get(f"/v1/jobs/{job['id']}/events", headers={"last-event-id": str(seen[-1][0])}).text)
        assert late == [seen[-1]], "the end is told to whoever comes back"


def test_cancelled_in_its_middle_the_last_version_stays(home: Path, make_engine: MakeEngine) -> None:
    with TestClient(create_app(make_engine(home))) as client:
        before = ids(client, "demo")
        many = rows([f"d{n}" for n in range(4000)], "The light of {name} is a long way from the moon. " * 8)
        job = client.post("/v1/jobs?collection=demo", content=many, headers=JSONL).json()
        for _ in range(600):
            if client.get(f"/v1/jobs/{job['id']}").json()["step"] == "add":
                break
            time.sleep(0.05)
        else:
            raise AssertionError("it never began")
        question = {"collection": "demo", "query": "light", "pipeline": "bm25"}
        assert client.post("/v1/search", json=question).json()["trace"]["version"] == 1
        asked = time.perf_counter()
        assert client.delete(f"/v1/jobs/{job['id']}").json()["state"] in ("running", "cancelled")
        ended = over(client, job, seconds=30)
        assert ended["state"] == "cancelled"
        assert time.perf_counter() - asked < 10, "a second on a quiet machine"
        assert ids(client, "demo") == before
        assert not (home / "collections" / "demo" / "building").exists()
        assert gone(home / "jobs" / job["id"])
        quick = client.post("/v1/jobs?collection=demo", content=rows(["a"]), headers=JSONL).json()
        assert over(client, quick)["version"] == 2

"""The page in a real browser, against a real server and a real model."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from browsing import browser, faults, in_a_browser, kept, opened
from serving import Client, Server, key, served

from extmem import LanguageModel, Memory

pytestmark = in_a_browser
__all__ = ["browser"]  # a fixture

FACTS = {f"note {n:02}": f"Note number {n} tells of a lamp by the door." for n in range(40)}
FILLED = {"memory": ".records > li", "write": "textarea", "compare": "option[value=assert]"}
SCRIPT = 150_000  # bytes, of issue 9


@pytest.fixture(scope="module")
def server(model: LanguageModel, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page") / "memory"
    with Memory(folder) as memory:
        model.memorize(memory, {path.stem: path.read_text() for path in sorted(corpus.iterdir())[:3]})
        for name, text in FACTS.items():
            memory.store(name, text)
    with served(folder, "--model", str(corpus.parent / "model")) as running:
        yield running


@pytest.fixture(scope="module")
def admin(server: Server) -> Client:
    return Client(server.port, key(server.folder))


def link(server: Server) -> str:
    return server.process.stdout.readline().split()[0]


def add(page: Any, key: str, text: str) -> None:
    page.get_by_role("button", name="Add a record").click()
    page.get_by_label("Key").fill(key)
    page.get_by_label("Text").fill(text)
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved.").wait_for()


def write(page: Any, prompt: str) -> None:
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name="Write", exact=True).click()
    page.wait_for_selector(".token")
    page.wait_for_selector("button.main:enabled", timeout=60_000)


def test_the_printed_link_opens_the_page_once(server: Server, browser: Any) -> None:
    address = link(server)
    for expected in ("What is remembered", "Open this memory"):
        context = browser.new_context(locale="en")
        page = context.new_page()
        page.goto(address)
        page.get_by_role("heading", name=expected).wait_for()
        assert "link" not in page.url
        context.close()


def test_without_a_key_only_the_page_itself_is_answered(server: Server) -> None:
    nobody = Client(server.port)
    page = nobody.ask("GET", "/")
    assert page.status == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert nobody.ask("GET", "/v1/records").status == 401
    assert nobody.ask("GET", "/page/../serve.py").status == 401
    assert nobody.ask("POST", "/v1/session", {"link": "guessed"}).status == 401
    assert Client(server.port, "es_guessed").ask("GET", "/v1/records").status == 401


def test_a_search_marks_what_matched_and_says_the_score(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "memory") as page:
        page.get_by_label("Search").fill("number 17")
        page.get_by_role("button", name="Search").click()
        first = page.locator(".records > li").first
        first.locator("mark", has_text="17").wait_for()
        assert first.locator(".key").text_content() == "note 17"
        assert re.search(r"score \d", first.text_content())
        kept(page, "search")


def test_records_come_a_page_at_a_time(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "memory") as page:
        more = page.get_by_role("button", name="More")
        more.wait_for()
        seen = page.locator(".records > li").count()
        more.click()
        more.wait_for(state="detached")
        assert page.locator(".records > li").count() > seen


def test_lists_that_come_at_once_double_no_row(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "memory") as page:
        page.get_by_role("button", name="More").wait_for()
        for button in ("Search", "More"):  # a search for nothing is for all
            page.get_by_role("button", name=button).dblclick()
            page.wait_for_load_state("networkidle")
            keys = page.locator(".records > li .key").all_text_contents()
            assert len(keys) >= 30
            assert len(keys) == len(set(keys))


def test_a_record_is_added_and_changed(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "memory") as page:
        add(page, "added/here", "first")
        assert admin.ask("GET", "/v1/records/added%2Fhere").json["value"] == "first"
        page.get_by_role("button", name="Edit: added/here").click()
        page.get_by_label("Text").fill("second")
        admin.ask("PUT", "/v1/records/added%2Fhere", {"value": "another's"})
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Someone else changed").wait_for()
        assert page.get_by_role("dialog").get_by_text("another's").is_visible()
        assert admin.ask("GET", "/v1/records/added%2Fhere").json["value"] == "another's"
        kept(page, "conflict")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("dialog").wait_for(state="detached")
        assert admin.ask("GET", "/v1/records/added%2Fhere").json["value"] == "second"


@pytest.mark.parametrize("key", [".", ".."])
def test_a_key_of_dots_is_added_changed_and_forgotten(server: Server, admin: Client, browser: Any, key: str) -> None:
    with opened(browser, server, admin, "memory") as page:
        add(page, key, "first")
        page.get_by_role("button", name=f"Edit: {key}", exact=True).click()
        page.get_by_label("Text").fill("second")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("dialog").wait_for(state="detached")
        assert admin.ask("GET", f"/v1/records/?key={key}").json["value"] == "second"
        assert admin.ask("GET", f"/v1/history/?key={key}").json["key"] == key
        page.get_by_role("button", name=f"Forget: {key}", exact=True).click()
        page.goto("about:blank")
        ends = time.monotonic() + 5
        while (status := admin.ask("GET", f"/v1/records/?key={key}").status) == 200 and time.monotonic() < ends:
            time.sleep(0.05)
        assert status == 404


def test_forgetting_can_be_undone_and_is_done_when_the_page_is_left(
    server: Server, admin: Client, browser: Any
) -> None:
    with opened(browser, server, admin, "memory") as page:
        before = admin.ask("GET", "/v1/records/note%2000").json
        page.get_by_role("button", name="Forget: note 00").click()
        assert not page.get_by_role("button", name="Forget: note 00").is_visible()
        kept(page, "undo")
        page.get_by_role("button", name="Undo").click()
        page.get_by_role("button", name="Forget: note 00").wait_for()
        assert admin.ask("GET", "/v1/records/note%2000").json == before
        page.get_by_role("button", name="Forget: note 01").click()
        assert admin.ask("GET", "/v1/records/note%2001").status == 200
        page.goto("about:blank")
        ends = time.monotonic() + 5  # its ten seconds are not over
        while (status := admin.ask("GET", "/v1/records/note%2001").status) == 200 and time.monotonic() < ends:
            time.sleep(0.05)
        assert status == 404


def test_chosen_files_are_imported(server: Server, admin: Client, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("a file of its own")
    (tmp_path / "many.jsonl").write_bytes(admin.ask("GET", "/v1/export").body.replace(b'"note 02"', b'"imported 02"'))
    with opened(browser, server, admin, "memory") as page:
        page.locator("input[type=file]").set_input_files([tmp_path / "one.txt", tmp_path / "many.jsonl"])
        page.get_by_text("records imported").wait_for()
    assert admin.ask("GET", "/v1/records/one.txt").json["value"] == "a file of its own"
    assert admin.ask("GET", "/v1/records/imported%2002").status == 200


def test_dropped_files_are_imported(server: Server, admin: Client, browser: Any) -> None:
    lines = admin.ask("GET", "/v1/export").body.replace(b'"note 02"', b'"dropped 02"').decode()
    with opened(browser, server, admin, "memory") as page:
        held = page.evaluate_handle(
            """([text, lines]) => {
                const held = new DataTransfer();
                held.items.add(new File([text], "dropped.txt", { type: "text/plain" }));
                held.items.add(new File([lines], "dropped.jsonl"));
                return held;
            }""",
            ["a file that was dropped", lines],
        )
        place = page.locator(".drop")
        place.dispatch_event("dragover", {"dataTransfer": held})
        assert "over" in place.get_attribute("class").split()
        place.dispatch_event("drop", {"dataTransfer": held})
        page.get_by_text("records imported").wait_for()
        assert "over" not in place.get_attribute("class").split()
        page.locator(".records > li", has_text="a file that was dropped").wait_for()
    assert admin.ask("GET", "/v1/records/dropped.txt").json["value"] == "a file that was dropped"
    assert admin.ask("GET", "/v1/records/dropped%2002").json["value"] == FACTS["note 02"]


class Proxy(BaseHTTPRequestHandler):
    """Hands on what it is asked, and answers imports as a proxy does whose server is away."""

    behind = 0

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, kind, said = 502, "text/html", b"<html>Bad Gateway</html>"
        if not self.path.startswith("/v1/import"):
            connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            status, kind, said = answer.status, answer.headers["content-type"], answer.read()
            connection.close()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_GET

    def log_message(self, *said: object) -> None:
        pass


def test_an_import_that_a_proxy_answers_is_told_as_failed(
    server: Server, admin: Client, browser: Any, tmp_path: Path
) -> None:
    (tmp_path / "many.jsonl").write_bytes(admin.ask("GET", "/v1/export").body)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Proxy,), {"behind": server.port})) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            with opened(browser, server._replace(port=proxy.server_port), admin, "memory") as page:
                page.locator("input[type=file]").set_input_files([tmp_path / "many.jsonl"])
                page.get_by_text("That did not work: many.jsonl: HTTP 502").wait_for()
                page.locator("progress").wait_for(state="detached")
                assert page.get_by_text("0 records imported.").count() == 1, "none of it counts as imported"
        finally:
            proxy.shutdown()


def test_a_text_streams_in_and_its_words_say_where_they_came_from(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "write", viewport={"width": 1100, "height": 800}) as page:
        page.get_by_label("Compare with and without memory").check()
        write(page, "A function definition")
        assert page.locator("section.text").count() == 2
        cited = page.locator(".token.cited").first
        cited.focus()
        page.locator(".cites blockquote mark").first.wait_for()
        assert page.locator(".cites blockquote mark").first.text_content().strip()
        assert "from memory" in page.locator(".cites").text_content()
        assert float(cited.evaluate("one => one.style.getPropertyValue('--share')")) > 0
        shown = page.locator(".cites").text_content()
        for said in ("from this text", "The model alone", "The memory"):
            assert said in shown
        assert page.locator(".likeliest dd .weight").count() > 3
        kept(page, "write")
        without = page.locator("section.text").first.locator(".token")
        shares = without.evaluate_all("all => all.map(one => Number(one.style.getPropertyValue('--share')))")
        assert len(shares) > 3
        assert max(shares) < 0.001, "without the memory nothing is green"


@pytest.mark.parametrize("way", ["another view", "another language", "closing"])
def test_leaving_the_view_stops_its_writing(server: Server, admin: Client, browser: Any, way: str) -> None:
    log = server.folder.with_name("memory.log")
    before = log.read_text().count("went away")
    with opened(browser, server, admin, "write") as page:
        page.get_by_label("Compare with and without memory").check()
        page.get_by_label("Words at most").fill("400")
        page.get_by_label("Prompt").fill("A function definition")
        page.get_by_role("button", name="Write", exact=True).click()
        page.wait_for_selector(".token")
        if way == "another view":
            page.get_by_role("link", name="Memory").click()
        elif way == "another language":
            page.get_by_role("button", name="中文").click()
        else:
            page.close()
        ends = time.monotonic() + 15
        while log.read_text().count("went away") == before:
            assert time.monotonic() < ends
            time.sleep(0.05)


def test_the_arrow_keys_go_from_word_to_word(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "write") as page:
        write(page, "The assert statement")
        assert page.locator(".token[tabindex='0']").count() == 1
        page.locator(".token[tabindex='0']").focus()
        for key, at in (("ArrowRight", 1), ("End", -1), ("Home", 0)):
            page.keyboard.press(key)
            word = page.locator(".token[tabindex]").nth(at)
            assert word.evaluate("one => one === document.activeElement && one.tabIndex === 0")
            assert f"“{word.text_content()}”" in page.locator(".cites p").first.text_content()


def test_a_key_of_one_namespace_sees_it_and_those_below(server: Server, admin: Client, browser: Any) -> None:
    admin.ask("PUT", "/v1/records/hers?namespace=alice", {"value": "a cat"})
    admin.ask("PUT", "/v1/records/job?namespace=alice/work", {"value": "cook"})
    alice = Client(server.port, key(server.folder, "alice", may="write"))
    with opened(browser, server, alice, "memory") as page:
        page.locator(".records > li", has_text="hers").wait_for()
        choice = page.get_by_label("Namespace")
        assert choice.locator("option").all_text_contents() == ["alice", "alice/work"]
        choice.select_option("alice/work")
        page.locator(".records > li", has_text="job").wait_for()
        assert page.locator(".records > li").count() == 1
    assert admin.ask("DELETE", "/v1/namespaces/alice").status == 200


def test_what_is_added_is_written_with(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "memory") as page:
        add(page, "zebra", "The zebra of this house is statement.")
        page.get_by_role("link", name="Write").click()
        write(page, "The zebra of this house is")
        page.locator(".token[tabindex]").first.focus()
        cited = page.locator(".cites li", has_text="zebra").first
        cited.wait_for()
        assert cited.locator("mark").text_content() == "statement"


def test_a_record_is_forgotten_and_the_texts_compared(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "compare", viewport={"width": 1100, "height": 800}) as page:
        page.on("dialog", lambda asked: asked.accept())
        chosen = "async"
        page.get_by_label("Record").select_option(chosen)
        page.get_by_label("Prompt").fill("A function definition")
        page.get_by_role("button", name="Write with it").click()
        page.get_by_role("button", name="Forget it and compare").click(timeout=60_000)
        page.locator("main > p[role=status]:not(:empty)").wait_for(timeout=60_000)
        assert page.locator("section.text").count() == 2
        assert admin.ask("GET", f"/v1/records/{chosen}").status == 404
        kept(page, "compare")


def test_the_list_to_choose_from_is_of_keys_and_fetches_no_value(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "results") as page:
        answers: list[Any] = []
        page.on("response", lambda answer: answers.append(answer))
        page.get_by_role("link", name="Compare").click()
        page.locator("option[value='note 17']").wait_for(state="attached")
        page.wait_for_load_state("networkidle")
        said = "".join(one.text() for one in answers)
        assert "note 17" in said
        assert FACTS["note 17"] not in said


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_has_a_serious_fault(server: Server, admin: Client, browser: Any, scheme: str, locale: str) -> None:
    for view in ("memory", "write", "compare"):
        with opened(browser, server, admin, view, color_scheme=scheme, locale=locale) as page:
            page.locator(FILLED[view]).first.wait_for(state="attached")
            kept(page, f"{view}-{scheme}-{locale}")
            assert not (found := faults(page)), json.dumps(found, indent=1)[:4000]


def test_a_phone_shows_every_view_without_scrolling_sideways(server: Server, admin: Client, browser: Any) -> None:
    for view in ("memory", "write", "compare"):
        with opened(browser, server, admin, view, viewport={"width": 320, "height": 640}) as page:
            page.locator(FILLED[view]).first.wait_for(state="attached")
            kept(page, f"{view}-phone")
            assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_both_languages_say_the_same_things() -> None:
    words = files("extmem.serve").joinpath("page/words.js").read_text(encoding="utf-8")
    english, chinese = (set(re.findall(r"(\w+): (?:\"|\()", half)) for half in words.split("  zh: {"))
    assert english - {"en"} == chinese
    assert len(chinese) > 50


def test_all_script_is_small() -> None:
    scripts = [one for one in files("extmem.serve").joinpath("page").iterdir() if one.name.endswith(".js")]
    assert len(scripts) > 5
    assert sum(len(one.read_bytes()) for one in scripts) < SCRIPT

"""The page over HTTP: blind, escaped, resumable, and no verdict lost while the ledger is busy."""

import re
from html import unescape

import pytest
from starlette.types import ASGIApp

from cyclealign.annotation.app import annotation_app
from cyclealign.annotation.desk import Desk
from cyclealign.annotation.entrance import guarded
from tests.annotation.conftest import BASE, MemoryStore, ask


def fields(html: str, action: str) -> dict[str, str]:
    """The hidden fields of the form that goes to `action`."""
    (form,) = re.findall(rf'<form method="post" action="{action}".*?</form>', html, re.DOTALL)
    return {
        name: unescape(value) for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form)
    }


def judge(page: ASGIApp, verdict: str, annotator: str = "Ann") -> str:
    """Judge the next pair; returns the page that follows."""
    html = ask(page, "GET", f"/pairs?annotator={annotator}").text
    reply = ask(page, "POST", "/verdict", data={**fields(html, "/verdict"), "verdict": verdict})
    assert reply.status_code == 303
    return ask(page, "GET", reply.headers["location"]).text


def test_the_start_asks_for_a_name(page: ASGIApp) -> None:
    assert 'name="annotator"' in ask(page, "GET", "/").text


def test_a_settled_annotator_is_not_asked_and_cannot_be_another(desk: Desk, store: MemoryStore) -> None:
    page = guarded(annotation_app(desk, "Ann"))
    assert ask(page, "GET", "/").headers["location"] == "/pairs"
    html = ask(page, "GET", "/pairs?annotator=Ben").text
    ask(page, "POST", "/verdict", data={**fields(html, "/verdict"), "annotator": "Ben", "verdict": "tie"})
    assert [verdict.annotator for verdict in store.verdicts()] == ["Ann"]


def test_a_verdict_is_stored_in_the_order_of_presentation(page: ASGIApp, store: MemoryStore) -> None:
    html = ask(page, "GET", "/pairs?annotator=Ann").text
    shown = re.findall(r'<div class="words">((?:Old|New) answer \d)</div>', html)
    judge(page, "second")
    (verdict,) = store.verdicts()
    assert verdict.verdict == "second"
    texts = {"generation-old-0": "Old answer 0", "generation-new-0": "New answer 0"}
    assert [texts[verdict.first_generation_id], texts[verdict.second_generation_id]] == shown


def test_progress_is_shown_and_the_end_is_the_end(page: ASGIApp) -> None:
    assert "1 of 4 judged" in judge(page, "first")
    for _ in range(2):
        judge(page, "tie")
    assert "All 4 pairs are judged." in judge(page, "second")


def test_each_annotator_has_a_progress_of_their_own(page: ASGIApp) -> None:
    judge(page, "first")
    assert "0 of 4 judged" in ask(page, "GET", "/pairs?annotator=Ben").text


def test_undo_takes_the_last_verdict_back(page: ASGIApp, store: MemoryStore) -> None:
    before = ask(page, "GET", "/pairs?annotator=Ann").text
    after = judge(page, "first")
    reply = ask(page, "POST", "/undo", data=fields(after, "/undo"))
    assert ask(page, "GET", reply.headers["location"]).text == before
    assert store.verdicts() == []


def test_a_form_sent_twice_is_one_verdict(page: ASGIApp, store: MemoryStore) -> None:
    html = ask(page, "GET", "/pairs?annotator=Ann").text
    for verdict in ("first", "second"):
        ask(page, "POST", "/verdict", data={**fields(html, "/verdict"), "verdict": verdict})
    assert [one.verdict for one in store.verdicts()] == ["second"]


def test_nothing_that_reaches_the_browser_tells_which_system_wrote_what(page: ASGIApp) -> None:
    replies = [ask(page, "GET", path) for path in ("/", "/pairs?annotator=Ann", "/annotation.js", "/annotation.css")]
    html = replies[1].text
    replies.append(ask(page, "POST", "/verdict", data={**fields(html, "/verdict"), "verdict": "tie"}))
    for reply in replies:
        assert not re.search("generation|prompt0", reply.text + str(reply.headers))


def test_hostile_text_is_shown_and_does_nothing(page: ASGIApp) -> None:
    html = ask(page, "GET", "/pairs?annotator=%3Cb%3EAnn%3C/b%3E").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&lt;b&gt;Ann&lt;/b&gt;" in html
    assert re.findall(r"<script[^>]*>", html) == ['<script src="/annotation.js" defer>']
    assert not re.search("<img|<b>|\x1b|\u202e", html)


def test_the_policy_allows_the_pages_own_files_and_nothing_else(page: ASGIApp) -> None:
    for path in ("/", "/pairs?annotator=Ann", "/nowhere"):
        policy = ask(page, "GET", path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; form-action 'self'")
        assert "unsafe" not in policy


def test_a_busy_ledger_keeps_the_verdict_on_a_page_that_sends_it_again(page: ASGIApp, store: MemoryStore) -> None:
    html = ask(page, "GET", "/pairs?annotator=Ann").text
    store.locked = True
    reply = ask(page, "POST", "/verdict", data={**fields(html, "/verdict"), "verdict": "second"})
    assert reply.status_code == 503
    assert "The ledger is busy." in reply.text
    assert "ledger.duckdb" not in reply.text
    assert 'data-again-after-s="3"' in reply.text
    store.locked = False
    assert ask(page, "POST", "/verdict", data=fields(reply.text, "/verdict")).status_code == 303
    assert [one.verdict for one in store.verdicts()] == ["second"]


def test_a_busy_ledger_keeps_an_undoing_too(page: ASGIApp, store: MemoryStore) -> None:
    html = judge(page, "first")
    store.locked = True
    reply = ask(page, "POST", "/undo", data=fields(html, "/undo"))
    assert reply.status_code == 503
    store.locked = False
    ask(page, "POST", "/undo", data=fields(reply.text, "/undo"))
    assert store.verdicts() == []


@pytest.mark.parametrize(
    ("form", "status"),
    [
        pytest.param({"pair": "0" * 20, "verdict": "first", "annotator": "Ann"}, 404, id="a pair of nobody's"),
        pytest.param({"verdict": "first", "annotator": "Ann"}, 404, id="no pair"),
        pytest.param({"verdict": "first", "annotator": ""}, 400, id="no name"),
        pytest.param({"verdict": "x" * 5000}, 413, id="too long"),
    ],
)
def test_a_form_that_is_none_of_ours_is_refused(
    page: ASGIApp, store: MemoryStore, form: dict[str, str], status: int
) -> None:
    assert ask(page, "POST", "/verdict", data=form).status_code == status
    assert store.verdicts() == []


def test_an_unknown_verdict_is_refused(page: ASGIApp, store: MemoryStore) -> None:
    html = ask(page, "GET", "/pairs?annotator=Ann").text
    reply = ask(page, "POST", "/verdict", data={**fields(html, "/verdict"), "verdict": "missing"})
    assert reply.status_code == 400
    assert store.verdicts() == []


@pytest.mark.parametrize("content", [b"annotator=\xff", b"annotator=%ff"])
def test_a_form_that_is_no_text_is_refused(page: ASGIApp, content: bytes) -> None:
    assert ask(page, "POST", "/verdict", content=content).status_code == 400


def test_a_name_that_is_none_is_asked_for_again(page: ASGIApp) -> None:
    reply = ask(page, "GET", "/pairs?annotator=%20")
    assert reply.status_code == 400
    assert 'name="annotator"' in reply.text


STRANGERS = [
    pytest.param({"origin": "https://evil.example"}, id="a page elsewhere"),
    pytest.param({"origin": "http://127.0.0.1:3000"}, id="another server on this machine"),
    pytest.param({"origin": "http://localhost:8766"}, id="the same port under another name"),
    pytest.param({"origin": "null"}, id="a page without origin"),
    pytest.param({"origin": ""}, id="no origin"),
    pytest.param({"origin": BASE, "sec-fetch-site": "cross-site"}, id="a site that the browser calls another"),
]


@pytest.mark.parametrize("headers", STRANGERS)
def test_forms_of_strangers_are_refused(page: ASGIApp, store: MemoryStore, headers: dict[str, str]) -> None:
    html = ask(page, "GET", "/pairs?annotator=Ann").text
    form = {**fields(html, "/verdict"), "verdict": "first"}
    assert ask(page, "POST", "/verdict", data=form, headers=headers).status_code == 403
    assert store.verdicts() == []


def test_without_a_token_a_name_that_was_made_to_point_here_is_refused(page: ASGIApp) -> None:
    assert ask(page, "GET", "/", "http://evil.example:8766").status_code == 403

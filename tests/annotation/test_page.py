"""The page over HTTP: blind, escaped, resumable, and no verdict lost while the ledger cannot be written."""

import re
from html import unescape

import pytest
from starlette.types import ASGIApp

from cyclealign.annotation.entrance import guarded
from cyclealign.annotation.page import annotation_app
from cyclealign.annotation.pairs import PairQueue
from tests.annotation.conftest import BASE, MemoryStore, ask, pair


def fields(html: str, action: str) -> dict[str, str]:
    """The hidden fields of the form that goes to `action`."""
    (form,) = re.findall(rf'<form method="post" action="{action}".*?</form>', html, re.DOTALL)
    return {
        name: unescape(value) for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form)
    }


@pytest.fixture
def html(page: ASGIApp) -> str:
    """The first pair as Ann sees it."""
    return ask(page, "GET", "/pairs?annotator=Ann").text


def judge(page: ASGIApp, verdict: str) -> str:
    """Judge Ann's next pair; returns the page that follows."""
    form = fields(ask(page, "GET", "/pairs?annotator=Ann").text, "/verdict")
    reply = ask(page, "POST", "/verdict", data={**form, "verdict": verdict})
    assert reply.status_code == 303
    return ask(page, "GET", reply.headers["location"]).text


def test_the_start_asks_for_a_name_and_asks_again_for_one_that_is_none(page: ASGIApp) -> None:
    again = ask(page, "GET", "/pairs?annotator=%20")
    assert again.status_code == 400
    for reply in (again, ask(page, "GET", "/")):
        assert 'name="annotator"' in reply.text


def test_a_settled_annotator_is_not_asked_and_cannot_be_another(queue: PairQueue, store: MemoryStore) -> None:
    page = guarded(annotation_app(queue, "Ann"))
    assert ask(page, "GET", "/").headers["location"] == "/pairs"
    html = ask(page, "GET", "/pairs?annotator=Ben").text
    ask(page, "POST", "/verdict", data={**fields(html, "/verdict"), "annotator": "Ben", "verdict": "tie"})
    assert [verdict.annotator for verdict in store.verdicts()] == ["Ann"]


def test_a_verdict_is_stored_in_the_order_of_presentation(page: ASGIApp, html: str, store: MemoryStore) -> None:
    shown = re.findall(r'<div class="words">((?:Old|New) answer \d)</div>', html)
    judge(page, "second")
    (verdict,) = store.verdicts()
    assert verdict.verdict == "second"
    texts = {"generation-old-0": "Old answer 0", "generation-new-0": "New answer 0"}
    assert [texts[verdict.first_generation_id], texts[verdict.second_generation_id]] == shown


def test_each_annotator_has_a_progress_of_their_own_and_the_end_is_the_end(page: ASGIApp) -> None:
    assert "1 of 4 judged" in judge(page, "first")
    assert "0 of 4 judged" in ask(page, "GET", "/pairs?annotator=Ben").text
    for _ in range(2):
        judge(page, "tie")
    assert "All 4 pairs are judged." in judge(page, "second")


def test_undo_takes_the_last_verdict_back(page: ASGIApp, html: str, store: MemoryStore) -> None:
    reply = ask(page, "POST", "/undo", data=fields(judge(page, "first"), "/undo"))
    assert ask(page, "GET", reply.headers["location"]).text == html
    assert store.verdicts() == []


def test_a_form_sent_twice_is_one_verdict(page: ASGIApp, html: str, store: MemoryStore) -> None:
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


@pytest.mark.parametrize(("action", "left"), [("/verdict", ["first", "second"]), ("/undo", [])])
def test_a_full_disk_keeps_a_verdict_or_an_undoing_on_a_page_that_sends_it_again(
    page: ASGIApp, store: MemoryStore, action: str, left: list[str]
) -> None:
    form = fields(judge(page, "first"), action) | ({"verdict": "second"} if action == "/verdict" else {})
    store.full = True
    reply = ask(page, "POST", action, data=form)
    assert reply.status_code == 503
    assert "The ledger cannot be written." in reply.text
    assert "journal" not in reply.text
    assert 'data-again-after-s="3"' in reply.text
    store.full = False
    assert ask(page, "POST", action, data=fields(reply.text, action)).status_code == 303
    assert [one.verdict for one in store.verdicts()] == left


@pytest.mark.parametrize(
    ("form", "status"),
    [
        pytest.param({"pair": "0" * 20, "verdict": "first", "annotator": "Ann"}, 404, id="a pair of nobody's"),
        pytest.param({"verdict": "first", "annotator": "Ann"}, 404, id="no pair"),
        pytest.param({"verdict": "first", "annotator": ""}, 400, id="no name"),
        pytest.param({"pair": pair(0).id_for("Ann"), "verdict": "missing", "annotator": "Ann"}, 400, id="no verdict"),
        pytest.param({"verdict": "x" * 5000}, 413, id="too long"),
        pytest.param(b"annotator=\xff", 400, id="no ASCII"),
        pytest.param(b"annotator=%ff", 400, id="no text"),
    ],
)
def test_a_form_that_is_none_of_ours_is_refused(
    page: ASGIApp, store: MemoryStore, form: dict[str, str] | bytes, status: int
) -> None:
    sent = {"content": form} if isinstance(form, bytes) else {"data": form}
    assert ask(page, "POST", "/verdict", **sent).status_code == status
    assert store.verdicts() == []


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"origin": "https://evil.example"}, id="a page elsewhere"),
        pytest.param({"origin": "http://127.0.0.1:3000"}, id="another server on this machine"),
        pytest.param({"origin": "http://localhost:8766"}, id="the same port under another name"),
        pytest.param({"origin": "null"}, id="a page without origin"),
        pytest.param({"origin": ""}, id="no origin"),
        pytest.param({"origin": BASE, "sec-fetch-site": "cross-site"}, id="a site that the browser calls another"),
    ],
)
def test_forms_of_strangers_are_refused(page: ASGIApp, html: str, store: MemoryStore, headers: dict[str, str]) -> None:
    form = {**fields(html, "/verdict"), "verdict": "first"}
    assert ask(page, "POST", "/verdict", data=form, headers=headers).status_code == 403
    assert store.verdicts() == []


def test_without_a_token_a_name_that_was_made_to_point_here_is_refused(page: ASGIApp) -> None:
    assert ask(page, "GET", "/", "http://evil.example:8766").status_code == 403


HERE = "http://box.example:8766"


@pytest.fixture
def door(queue: PairQueue) -> ASGIApp:
    return guarded(annotation_app(queue), token="a long token")


def test_without_the_token_nothing_is_shown_but_the_door(door: ASGIApp) -> None:
    for path in ("/", "/pairs?annotator=Ann", "/annotation.js"):
        reply = ask(door, "GET", path, HERE)
        assert reply.status_code == 401
        assert "Question" not in reply.text
        assert 'name="token"' in reply.text
    assert ask(door, "POST", "/verdict", HERE, data={"verdict": "first"}).status_code == 401


def test_the_token_opens_the_pages_by_a_cookie_that_no_script_reads_and_no_other_site_sends(door: ASGIApp) -> None:
    reply = ask(door, "POST", "/enter", HERE, data={"token": "a long token"})
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    cookie = reply.headers["set-cookie"]
    assert "a long token" not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    opened = ask(door, "GET", "/pairs?annotator=Ann", HERE, headers={"cookie": cookie.split(";")[0]})
    assert "Question 0" in opened.text


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ("", 401, "not the token"),
        ("a long tokem", 401, "not the token"),
        ("ä", 401, "not the token"),
        ("x" * 5000, 413, "too long"),
    ],
    ids=["none", "almost", "no ASCII", "too long"],
)
def test_a_wrong_token_opens_nothing(door: ASGIApp, given: str, status: int, words: str) -> None:
    reply = ask(door, "POST", "/enter", HERE, data={"token": given})
    assert reply.status_code == status
    assert words in reply.text
    assert "set-cookie" not in reply.headers


def test_neither_a_wrong_cookie_nor_the_token_of_another_site_opens_anything(door: ASGIApp) -> None:
    cookie = {"cookie": "cyclealign_annotation=a long token; x"}
    assert ask(door, "GET", "/", HERE, headers=cookie).status_code == 401
    elsewhere = {"origin": "https://evil.example"}
    assert ask(door, "POST", "/enter", HERE, data={"token": "a long token"}, headers=elsewhere).status_code == 403

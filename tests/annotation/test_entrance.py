"""The page on a network: a token is asked for once."""

import pytest
from starlette.types import ASGIApp

from cyclealign.annotation.app import annotation_app
from cyclealign.annotation.desk import Desk
from cyclealign.annotation.entrance import guarded
from tests.annotation.conftest import ask

HERE = "http://box.example:8766"


@pytest.fixture
def door(desk: Desk) -> ASGIApp:
    return guarded(annotation_app(desk), token="a long token")


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


@pytest.mark.parametrize("given", ["", "a long tokem", "ä"])
def test_a_wrong_token_opens_nothing(door: ASGIApp, given: str) -> None:
    reply = ask(door, "POST", "/enter", HERE, data={"token": given})
    assert reply.status_code == 401
    assert "not the token" in reply.text
    assert "set-cookie" not in reply.headers


def test_a_form_that_is_too_long_is_refused_at_the_door(door: ASGIApp) -> None:
    assert ask(door, "POST", "/enter", HERE, data={"token": "x" * 5000}).status_code == 413


def test_a_wrong_cookie_opens_nothing(door: ASGIApp) -> None:
    headers = {"cookie": "cyclealign_annotation=a long token; x"}
    assert ask(door, "GET", "/", HERE, headers=headers).status_code == 401


def test_the_token_of_another_site_is_not_even_looked_at(door: ASGIApp) -> None:
    headers = {"origin": "https://evil.example"}
    reply = ask(door, "POST", "/enter", HERE, data={"token": "a long token"}, headers=headers)
    assert reply.status_code == 403

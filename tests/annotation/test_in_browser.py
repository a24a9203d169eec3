"""The page in a real browser, by keyboard. Runs where chromium and chromedriver are installed."""

import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from cyclealign.annotation.entrance import guarded
from cyclealign.annotation.page import annotation_app
from cyclealign.annotation.pairs import PairQueue
from cyclealign.loopback import listen
from tests.annotation.conftest import MemoryStore, pair
from tests.browser import ARROW_DOWN, ARROW_LEFT, ARROW_RIGHT, CHROMIUM, DRIVER, Browser, browser

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs a browser: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def address(store: MemoryStore) -> Iterator[str]:
    """Where the page of eight pairs is served, until the test ends."""
    app = guarded(annotation_app(PairQueue([pair(number) for number in range(8)], store)))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with listen("127.0.0.1", 0, "") as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=10)


def verdicts(store: MemoryStore) -> list[str]:
    return [one.verdict for one in store.verdicts()]


def test_everything_goes_by_keyboard(window: Browser, address: str, store: MemoryStore) -> None:
    window.open(address)
    for key in "Ann\n":
        window.press(key)
    keys = {"1": "first", "2": "second", "0": "tie", ARROW_LEFT: "first", ARROW_RIGHT: "second"}
    for number, key in enumerate(keys):
        window.wait_for_text(f"{number} of 8 judged")
        window.press(key)
    window.wait_for_text("5 of 8 judged")
    assert verdicts(store) == list(keys.values())
    window.press("u")
    window.wait_for_text("4 of 8 judged")
    assert verdicts(store) == list(keys.values())[:4]
    assert window.complaints() == []


def test_buttons_judge_and_keys_that_belong_to_the_browser_do_not(
    window: Browser, address: str, store: MemoryStore
) -> None:
    window.open(f"{address}/pairs?annotator=Ann")
    window.run("document.querySelector('button[value=second]').click()")
    window.wait_for_text("1 of 8 judged")
    for key in ("x", ARROW_DOWN):  # the arrow scrolls a long response
        window.press(key)
    window.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: '1', ctrlKey: true}))")
    window.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: '1', repeat: true}))")
    time.sleep(0.3)
    assert verdicts(store) == ["second"]


def test_going_back_shows_the_pair_that_is_next(window: Browser, address: str, store: MemoryStore) -> None:
    window.open(f"{address}/pairs?annotator=Ann")
    for number in (1, 2):
        window.press("1")
        window.wait_for_text(f"{number} of 8 judged")
    window.back()
    window.wait_for_text("2 of 8 judged")
    assert len(verdicts(store)) == 2


def test_a_verdict_waits_on_its_page_until_the_ledger_takes_it(
    window: Browser, address: str, store: MemoryStore
) -> None:
    window.open(f"{address}/pairs?annotator=Ann")
    store.full = True
    window.press("2")
    window.wait_for_text("Your verdict is not stored yet.")
    store.full = False
    window.wait_for_text("1 of 8 judged")
    assert verdicts(store) == ["second"]
    window.complaints()  # the refusal stands in the console, and is none of another test's


def test_hostile_text_is_only_text(window: Browser, address: str) -> None:
    window.open(f"{address}/pairs?annotator=Ann")
    window.wait_for_text("<script>alert(1)</script><img src=x onerror=alert(2)>")
    assert window.run("return document.querySelectorAll('main script, main img').length") == 0
    assert window.complaints() == []

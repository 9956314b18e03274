"""Conversations in the page: ask, stop, retry, edit; reload, two tabs, a server that is gone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from g4cli.server.guard import GuardOptions
from tests.support.fakes.scripted_engine import make_scripted_service
from tests.support.run.server import RunningServer, run_service, wait_until

pytestmark = pytest.mark.requires_chromium
ServeScript = Callable[..., RunningServer]


def ask(page: Any, text: str) -> None:
    """Type a question and send it."""
    page.fill("#question", text)
    page.keyboard.press("Enter")


def count_slowly(_prompt: str) -> list[str | float]:
    return [part for number in range(1, 400) for part in (f"{number} ", 0.02)]


def test_a_conversation_with_tiny(page: Any, server: RunningServer) -> None:
    page.goto(server.url)
    ask(page, "What is Q4_0?")
    expect(page.locator(".figures")).to_contain_text("tokens/s")
    answer = page.locator(".assistant .blocks")
    expect(answer).to_contain_text("4.5 bits per weight")
    expect(page.locator("#announcer")).to_contain_text("4.5 bits per weight")
    page.get_by_label("Copy", exact=True).last.click()
    assert page.evaluate("navigator.clipboard.readText()") == answer.inner_text()
    page.get_by_label("Try again").click()
    expect(page.locator(".branches")).to_contain_text("2 / 2")
    page.get_by_label("Show the version before").click()
    expect(page.locator(".branches")).to_contain_text("1 / 2")
    ask(page, "What is GGUF?")
    expect(page.locator(".assistant .figures")).to_have_count(2)
    expect(page.locator(".list .name")).to_have_text(["What is Q4_0?"])


@pytest.mark.slow
def test_an_edited_question_is_a_branch_and_both_stay(page: Any, serve_script: ServeScript) -> None:
    server = serve_script(lambda prompt: ["about ", "cats" if "cat" in prompt else "dogs"])
    page.goto(server.url)
    ask(page, "cat?")
    expect(page.locator(".assistant .blocks")).to_have_text("about cats")
    page.keyboard.press("ArrowUp")  # in the empty field: edit the last question
    page.get_by_label("Edit the question").fill("dog?")
    page.keyboard.press("Enter")
    expect(page.locator(".assistant .blocks")).to_have_text("about dogs")
    page.get_by_label("Show the version before").click()
    expect(page.locator(".assistant .blocks")).to_have_text("about cats")
    page.reload()
    expect(page.locator(".assistant .blocks")).to_have_text("about cats")
    expect(page.locator(".user .bubble")).to_have_text("cat?")


@pytest.mark.slow
def test_what_is_typed_while_a_question_is_sent_stays(page: Any, serve_script: ServeScript) -> None:
    held: list[Any] = []
    page.goto(serve_script(lambda _: ["x"]).url)
    page.route("**/questions", lambda route: held.append(route))
    ask(page, "One?")
    wait_until(lambda: held or page.wait_for_timeout(10))
    page.fill("#question", "Two?")
    held[0].continue_()
    expect(page.locator(".figures")).to_be_visible()
    expect(page.locator("#question")).to_have_value("Two?")
    page.get_by_label("Edit and ask again").click()
    page.get_by_label("Edit the question").fill(" ")
    page.keyboard.press("Enter")  # nothing is asked
    expect(page.get_by_label("Edit the question")).to_be_visible()


@pytest.mark.slow
def test_a_stopped_answer_keeps_what_was_written(page: Any, serve_script: ServeScript) -> None:
    server = serve_script(count_slowly)
    page.goto(server.url)
    ask(page, "Count.")
    expect(page.locator(".assistant .blocks")).to_contain_text("5 6 7")
    page.keyboard.press("Escape")
    expect(page.locator(".notes")).to_have_text("Stopped.")
    expect(page.locator("#send")).to_be_visible()
    page.reload()
    expect(page.locator(".assistant .blocks")).to_contain_text("5 6 7")


@pytest.mark.slow
def test_a_reload_in_the_middle_of_an_answer(page: Any, serve_script: ServeScript) -> None:
    pieces: list[str | float] = [x for n in range(1, 41) for x in (f"{n} ", 0.05)]
    server = serve_script(lambda _: ["thought:Let me count.", 0.1, *pieces])
    page.goto(server.url)
    ask(page, "Count.")
    expect(page.locator(".assistant .blocks")).to_contain_text("3 4")
    page.reload()
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator(".assistant .blocks")).to_contain_text("39 40")
    text = page.locator(".assistant .blocks").inner_text()
    assert text.split() == [str(number) for number in range(1, 41)]
    expect(page.locator(".thought summary")).to_contain_text("3 words")
    page.locator(".thought summary").click()
    expect(page.locator(".thought-text")).to_have_text("Let me count.")


@pytest.mark.slow
def test_two_tabs_show_the_same_answer(page: Any, serve_script: ServeScript) -> None:
    server = serve_script(lambda _: [x for n in range(1, 31) for x in (f"{n} ", 0.05)])
    page.goto(server.url)
    ask(page, "Count.")
    expect(page.locator(".assistant .blocks")).to_contain_text("2 3")
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator(".assistant .blocks")).to_contain_text("29 30")
    expect(page.locator(".assistant .blocks")).to_contain_text("29 30")
    expect(other.locator("#send")).to_be_visible()  # the answer has ended
    ask(other, "Again.")
    expect(page.locator(".assistant")).to_have_count(2)


@pytest.mark.slow
def test_a_server_that_is_gone_and_comes_back(
    page: Any, serve_script: ServeScript, tiny_path: Any
) -> None:
    service = make_scripted_service(tiny_path, count_slowly)
    with run_service(service) as first:
        page.goto(first.url)
        ask(page, "Count.")
        expect(page.locator(".assistant .blocks")).to_contain_text("5 6 7")
        port = int(first.url.rpartition(":")[2])
    expect(page.locator("#notice")).to_contain_text("does not answer")
    serve_script(lambda _: ["here again"], port=port)
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator(".assistant .blocks")).to_contain_text("5 6 7")
    expect(page.locator(".notes")).to_contain_text("Stopped")
    ask(page, "And now?")  # with the token of the new server
    expect(page.locator(".assistant .blocks").last).to_have_text("here again")


@pytest.mark.slow
def test_rename_search_and_delete(page: Any, serve_script: ServeScript) -> None:
    server = serve_script(lambda prompt: ["purple" if "color" in prompt else "loud"])
    page.goto(server.url)
    for question in ("Which color?", "Which sound?"):
        page.click("#new-chat")
        ask(page, question)
        expect(page.locator(".figures")).to_be_visible()
    expect(page.locator(".list .name")).to_have_count(2)
    page.fill("#search", "purp")
    expect(page.locator(".list .name")).to_have_text(["Which color?"])
    page.locator(".list .item").click()
    expect(page.locator(".bubble")).to_have_text("Which color?")
    page.get_by_label("Rename Which color?").click()
    page.get_by_label("Title").fill("Colors")
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_have_text("Colors")
    page.get_by_label("Delete Colors").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".greeting")).to_be_visible()
    page.fill("#search", "")
    expect(page.locator(".list .name")).to_have_text(["Which sound?"])


@pytest.mark.slow
def test_what_another_tab_deletes_is_said(page: Any, serve_script: ServeScript) -> None:
    server = serve_script(lambda _: ["an answer"])
    page.goto(server.url)
    ask(page, "Delete me.")
    expect(page.locator(".figures")).to_be_visible()
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator(".bubble")).to_have_text("Delete me.")
    page.locator(".list li.open").hover()
    page.get_by_label("Delete Delete me.").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(other.locator("#notice")).to_contain_text("This conversation was deleted")
    expect(other.locator(".greeting")).to_be_visible()
    ask(other, "A new one.")
    expect(other.locator(".figures")).to_be_visible()
    # Deleted by another program, which tells no tab.
    token = page.request.get(f"{server.url}/page/api/start").json()["token"]
    number = other.url.rpartition("#")[2]
    deleted = page.request.delete(
        f"{server.url}/page/api/conversations/{number}", headers={"X-G4-Token": token}
    )
    assert deleted.ok
    ask(other, "Still there?")
    expect(other.locator("#notice")).to_contain_text("Ask again to begin a new one.")
    expect(other.locator("#question")).to_have_value("Still there?")
    other.click("#send")
    expect(other.locator(".bubble")).to_have_text("Still there?")


@pytest.mark.slow
def test_a_deleted_turn_leaves_its_other_versions(page: Any, serve_script: ServeScript) -> None:
    server = serve_script(lambda prompt: ["cats" if "cat" in prompt else "dogs"])
    page.goto(server.url)
    ask(page, "cat?")
    expect(page.locator(".figures")).to_be_visible()
    page.get_by_label("Edit and ask again").click()
    page.get_by_label("Edit the question").fill("dog?")
    page.keyboard.press("Enter")
    expect(page.locator(".assistant .blocks")).to_have_text("dogs")
    expect(page.locator(".figures")).to_be_visible()

    def delete(kind: str) -> None:
        page.locator(f".turn.{kind}").get_by_label("Delete this and what follows").click()
        page.get_by_role("button", name="Delete", exact=True).click()

    delete("user")
    expect(page.locator(".assistant .blocks")).to_have_text("cats")
    expect(page.locator(".bubble")).to_have_text("cat?")
    expect(page.locator(".branches")).to_have_count(0)
    delete("assistant")
    expect(page.locator(".assistant")).to_have_count(0)
    page.get_by_label("Answer this question").click()
    expect(page.locator(".assistant .blocks")).to_have_text("cats")
    expect(page.locator(".figures")).to_be_visible()
    expect(page.get_by_label("Answer this question")).to_be_hidden()
    delete("user")
    expect(page.locator(".greeting")).to_be_visible()
    expect(page.locator(".list .name")).to_have_count(0)
    assert page.url == f"{server.url}/"


@pytest.mark.slow
def test_settings_reach_the_model_and_stay(page: Any, serve_script: ServeScript) -> None:
    server = serve_script(lambda prompt: ["a pirate" if "pirate" in prompt else "nobody"])
    page.goto(server.url)
    page.click("#toggle-settings")
    expect(page.locator("#set-temp")).to_have_attribute("placeholder", re.compile("1"))
    page.fill("#system", "You are a pirate.")
    page.fill("#set-temp", "0.3")
    page.fill("#set-seed", "7")
    page.keyboard.press("Escape")
    ask(page, "Who are you?")
    expect(page.locator(".assistant .blocks")).to_have_text("a pirate")
    page.reload()
    page.click("#toggle-settings")
    expect(page.locator("#system")).to_have_value("You are a pirate.")
    expect(page.locator("#set-temp")).to_have_value("0.3")


@pytest.mark.slow
def test_the_key_of_the_server_is_asked_once(page: Any, serve_script: ServeScript) -> None:
    server = serve_script(lambda _: ["hello"], GuardOptions(keys=("secret",)))
    page.goto(server.url)
    for key in ("wrong", "secret"):
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        page.wait_for_timeout(200)
    expect(page.locator("dialog")).to_have_count(0)
    ask(page, "Hi")
    expect(page.locator(".assistant .blocks")).to_have_text("hello")
    page.reload()
    expect(page.locator(".assistant .blocks")).to_have_text("hello")
    expect(page.locator("dialog")).to_have_count(0)

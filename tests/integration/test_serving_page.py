"""The chat page in a real headless Chromium, on the server with a real engine; and its stream."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest

from router_r1.inference.router import Router
from router_r1.pool.config import PoolConfig
from router_r1.serve.app import RouterServer
from tests.integration.chromium import Page
from tests.integration.faults import fault
from tests.integration.serving import KEY, idle_state, served, until

pytestmark = pytest.mark.engine
Steps = Callable[[Page], Awaitable[Any]]
CROWD = 32
# Notes what is seen only for a moment: texts of a growing thought, and the line of a call.
WATCH = """
window.thoughts = []; window.asking = [];
new MutationObserver(() => {
  const thought = document.querySelector('.think.open .text');
  if (thought) thoughts.push(thought.textContent);
  const line = document.querySelector('.asking');
  if (line) asking.push(line.innerText);
}).observe(document.getElementById('log'), {childList: true, subtree: true, characterData: true});
"""
# Presses Escape in the moment in which a call is shown.
ESCAPE_AT_CALL = """
new MutationObserver((_, observer) => {
  if (!document.querySelector('.asking')) return;
  observer.disconnect();
  const escape = new KeyboardEvent('keydown', {key: 'Escape', bubbles: true});
  document.activeElement.dispatchEvent(escape);
}).observe(document.getElementById('log'), {childList: true, subtree: true});
"""
ENDED = "document.querySelector('.exchange:not(.running):last-child') !== null"


@pytest.fixture(scope="module")
def open_server(router: Router) -> Iterator[tuple[RouterServer, str]]:
    """A server that asks for no key, and the address of its page."""
    with served(router, api_key=None) as (server, url):
        yield server, url.removesuffix("v1")


def visit(devtools: str, address: str, steps: Steps, expected: tuple[str, ...] = ()) -> Any:
    """What ``steps`` returns on the opened page, of which only ``expected`` problems came."""

    async def run() -> Any:
        async with Page(devtools, origin=address) as page:
            await page.send("Page.navigate", url=address)
            await page.wait_for("document.activeElement?.matches('#question, #key')")
            result = await steps(page)
            assert await page.evaluate("window.pwned") is None
            assert [p for p in page.problems if not any(part in p for part in expected)] == []
            return result

    return asyncio.run(run())


async def ask(page: Page, question: str) -> None:
    await page.type(question)
    await page.press("Enter")


async def reload(page: Page) -> None:
    """Loads the page again; what is evaluated next is evaluated on the new one."""
    await page.evaluate("window.isOld = true")
    await page.send("Page.reload")
    ready = "document.activeElement?.matches('#question, #key')"
    await page.wait_for(f"window.isOld === undefined && {ready}")


async def text_of(page: Page, selector: str) -> str:
    return str(await page.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))


def api_answer(address: str, question: str) -> Any:
    with openai.OpenAI(base_url=f"{address}v1", api_key="none", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": question}]
        return client.chat.completions.create(model="router-r1", messages=messages)


def test_a_question_is_followed_from_thought_to_total(
    devtools: str, open_server: tuple[RouterServer, str], questions: list[str]
) -> None:
    _, address = open_server
    expected = api_answer(address, questions[0])
    calls = expected.router["calls"]

    async def steps(page: Page) -> None:
        await page.evaluate(WATCH)
        await ask(page, questions[0])
        await page.wait_for(ENDED)
        thoughts = await page.evaluate("thoughts")
        assert len(set(thoughts)) > 3, "the thought comes token by token"
        asking = await page.evaluate("asking")
        assert {line.split("\n")[0] for line in asking} == {call["llm"] for call in calls}
        assert await text_of(page, ".exchange .question") == questions[0]
        answer = "document.querySelector('.answer .text').textContent"
        assert await page.evaluate(answer) == expected.choices[0].message.content
        lines = await page.evaluate(
            "[...document.querySelectorAll('.search .call')].map((line) => line.innerText)"
        )
        assert len(lines) == len(calls)
        for line, call in zip(lines, calls, strict=True):
            assert f"{call['prompt_tokens']} → {call['completion_tokens']} tokens" in line
            assert call["llm"] in line
            assert "ok" in line
        assert await page.evaluate("document.querySelectorAll('.observation').length") == len(calls)
        total = await text_of(page, ".total")
        assert f"{expected.usage.completion_tokens}\n" in total
        assert await text_of(page, "#status") == f"Answer: {expected.choices[0].message.content}"
        assert await page.evaluate("document.querySelectorAll('.forged, .loose').length") == 0

        # Earlier questions stay, below them the next, and all of it after loading the page again.
        await ask(page, questions[1])
        await page.wait_for("document.querySelectorAll('.exchange .total').length === 2")
        before = await page.evaluate("document.getElementById('log').innerHTML")
        await reload(page)
        await page.wait_for("document.querySelectorAll('.exchange').length === 2")
        assert await page.evaluate("document.getElementById('log').innerHTML") == before
        await page.evaluate("document.getElementById('clear').click()")
        await reload(page)
        await page.wait_for("document.getElementById('welcome')?.hidden === false")
        assert await page.evaluate("document.querySelectorAll('.exchange').length") == 0

    visit(devtools, address, steps)


def test_an_example_is_answered_with_the_keyboard_alone(
    devtools: str, open_server: tuple[RouterServer, str]
) -> None:
    async def steps(page: Page) -> None:
        example = await text_of(page, "#examples button")
        await page.evaluate("document.querySelector('#examples button').focus()")
        await page.press("\r")
        await page.wait_for(ENDED)
        assert await text_of(page, ".exchange .question") == example
        assert "The world's own answer: " in await text_of(page, ".exchange .accepted")
        assert await page.evaluate("document.activeElement.id") == "question"
        shown = "[...document.querySelectorAll('#examples button')].map((b) => b.textContent)"
        assert example not in await page.evaluate(shown)

    visit(devtools, open_server[1], steps)


def test_escape_stops_the_question_here_and_in_the_engine(
    devtools: str,
    open_server: tuple[RouterServer, str],
    router: Router,
    questions: list[str],
    served_pool: PoolConfig,
) -> None:
    server, address = open_server

    async def steps(page: Page) -> None:
        await page.evaluate(ESCAPE_AT_CALL)
        await ask(page, questions[0])
        await page.wait_for(ENDED)
        assert await text_of(page, ".remark") == "Stopped."
        assert "not awaited" in await text_of(page, ".search .call")
        assert await page.evaluate("document.querySelector('.answer')") is None
        assert await page.evaluate("document.getElementById('send').hidden") is False

    before = router.run(idle_state(router))[0]
    with fault(served_pool, "hang"):
        visit(devtools, address, steps)
        assert until(lambda: server.metrics.in_flight == 0, 5.0)
    assert until(lambda: router.run(idle_state(router))[0] == before)
    assert 'router_r1_requests_total{status="499"} 1' in server.metrics.render()


def test_markup_in_questions_and_replies_stays_text(
    devtools: str,
    open_server: tuple[RouterServer, str],
    questions: list[str],
    served_pool: PoolConfig,
) -> None:
    markup = "<script>pwned=1</script><img src=x onerror=pwned=1>"

    async def steps(page: Page) -> None:
        await ask(page, questions[0])
        await page.wait_for(ENDED)
        assert (await text_of(page, ".observation .text")).startswith(markup[:30])
        await ask(page, markup)
        await page.wait_for("document.querySelectorAll('.exchange:not(.running)').length === 2")
        assert await text_of(page, ".exchange:last-child .question") == markup
        await reload(page)
        await page.wait_for("document.querySelectorAll('.exchange').length === 2")
        assert await page.evaluate("document.querySelectorAll('main script, main img').length") == 0

    with fault(served_pool, "markup_reply"):
        visit(devtools, open_server[1], steps)


def test_what_fails_is_said_where_it_fails(
    devtools: str, router: Router, questions: list[str], served_pool: PoolConfig
) -> None:
    with served(router, api_key=None) as (server, url):
        address = url.removesuffix("v1")

        async def steps(page: Page) -> None:
            with fault(served_pool, "status_500"):
                await ask(page, questions[0])
                await page.wait_for(ENDED)
            assert "server error" in await text_of(page, ".search .call .failed")

            await ask(page, "Who is " + "very " * 300 + "old?")
            await page.wait_for("document.querySelector('.fault:not(:empty)') !== null")
            assert "at most" in await text_of(page, ".exchange:last-child .fault")

            await asyncio.to_thread(router.run, server.stop())
            await ask(page, questions[0])
            await page.wait_for("document.querySelectorAll('.exchange .fault').length === 2")
            fault_text = await text_of(page, ".exchange:last-child .fault")
            assert fault_text == "The server cannot be reached. Is it still running?"

        visit(devtools, address, steps, ("status of 400", "ERR_CONNECTION_REFUSED"))


def test_a_key_is_asked_for_and_kept_in_memory_only(
    devtools: str, router: Router, questions: list[str]
) -> None:
    with served(router) as (_, url):

        async def steps(page: Page) -> None:
            assert await page.evaluate("document.getElementById('ask-form').hidden") is True
            await page.type("sk-wrong")
            await page.evaluate("document.querySelector('#key-form button').click()")
            await page.wait_for("document.getElementById('key-fault').textContent !== ''")
            assert await text_of(page, "#key-fault") == "The server does not accept this key."
            await page.type(KEY)
            await page.evaluate("document.querySelector('#key-form button').click()")
            await page.wait_for("document.activeElement?.id === 'question'")
            await ask(page, questions[0])
            await page.wait_for(ENDED)
            assert await text_of(page, ".answer .text")
            kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
            assert KEY not in await page.evaluate(kept)
            assert KEY not in await page.evaluate("document.documentElement.outerHTML")
            await reload(page)
            assert await page.evaluate("document.activeElement.id") == "key"

        visit(devtools, url.removesuffix("v1"), steps, ("status of 401",))


def test_the_slider_says_what_cost_counts(
    devtools: str, told_router: Router, open_server: tuple[RouterServer, str], questions: list[str]
) -> None:
    shown = "!document.getElementById('weight').hidden"

    async def steps(page: Page) -> None:
        assert await page.evaluate(shown)
        assert await text_of(page, "#weight-words") == "cost counts 0.3"
        await page.evaluate(
            "Object.assign(document.getElementById('cost-coe'), {value: 0.45})"
            ".dispatchEvent(new Event('input'))"
        )
        assert await text_of(page, "#weight-words") == "cost counts 0.45"
        await page.evaluate("document.getElementById('question').focus()")
        await ask(page, questions[0])
        await page.wait_for(ENDED)
        assert await text_of(page, ".exchange .preference") == "Cost counts 0.45."
        end = "JSON.parse(Object.values(sessionStorage)[0]).at(-1)"
        assert await page.evaluate(f"{end}.end.router.cost_coe") == 0.45
        await reload(page)
        assert await text_of(page, ".exchange .preference") == "Cost counts 0.45."

    with served(told_router, api_key=None) as (_, url):
        visit(devtools, url.removesuffix("v1"), steps)

    async def without(page: Page) -> bool:
        return bool(await page.evaluate(shown))

    assert not visit(devtools, open_server[1], without)


@pytest.mark.parametrize(
    ("path", "site", "status"),
    [
        ("v1/models", None, 200),
        ("v1/models", "same-origin", 200),
        ("v1/models", "cross-site", 403),
        ("v1/models", "same-site", 403),
        ("", "cross-site", 200),  # a link to the page
    ],
)
def test_a_page_of_another_site_may_not_ask(
    open_server: tuple[RouterServer, str], path: str, site: str | None, status: int
) -> None:
    headers = {"Sec-Fetch-Site": site} if site else {}
    request = urllib.request.Request(f"{open_server[1]}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            assert response.status == status
    except urllib.error.HTTPError as error:
        assert error.code == status  # noqa: PT017


def test_thirty_two_streams_at_once_each_tell_their_own_calls(
    open_server: tuple[RouterServer, str], questions: list[str]
) -> None:
    server, address = open_server

    async def one(client: openai.AsyncOpenAI, question: str) -> int:
        messages: Any = [{"role": "user", "content": question}]
        told: dict[str, list[dict[str, Any]]] = {}
        information, reasoning = [], ""
        last: Any = None
        stream = await client.chat.completions.create(
            model="router-r1", messages=messages, stream=True
        )
        async for chunk in stream:
            last = chunk
            text = getattr(chunk.choices[0].delta, "reasoning_content", None) or ""
            reasoning += text
            event = getattr(chunk, "router", {})
            told.setdefault(event.get("event", ""), []).append(event)
            if event.get("event") == "information":
                information.append(text)
        calls = last.router["calls"]
        numbers = list(range(len(calls)))
        assert [event["call"] for event in told.get("call", [])] == numbers
        assert [event["query"] for event in told.get("call", [])] == [c["query"] for c in calls]
        for event, call in zip(told.get("result", []), calls, strict=True):
            assert {name: call[name] for name in event if name in call} == {
                name: value for name, value in event.items() if name in call
            }
            assert {"llm", "outcome", "cost", "latency_s"} <= event.keys() & call.keys()
        assert len(told["turn"]) == last.router["turns"]
        assert all(block in reasoning and "<information>" in block for block in information)
        return len(information)

    async def crowd() -> list[int]:
        async with openai.AsyncOpenAI(
            base_url=f"{address}v1", api_key="none", max_retries=0
        ) as client:
            return await asyncio.gather(*(one(client, question) for question in questions[:CROWD]))

    assert sum(asyncio.run(crowd())) >= CROWD
    assert until(lambda: server.metrics.in_flight == 0)

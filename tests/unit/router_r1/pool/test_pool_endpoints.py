"""Where requests go and what they carry: URLs, keys, proxies, the environment."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from router_r1.pool.client import PoolClient, PoolUnreachableError, check_endpoints
from router_r1.pool.endpoint import EndpointError
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.pool.proxies import ProxyError, is_loopback, proxy_for
from router_r1.pool.request_options import PoolKeyError, RequestOptions
from tests.pool_stub import Answer, Sent, StubEndpoint, error, in_turn, ok, pool_at, stub

KEY = "ROUTER_R1_API_KEY"


def asked(url: str, **changes: Any) -> CallResult:
    async def run() -> CallResult:
        client = PoolClient(pool_at(url, **changes))
        try:
            return await client.ask("A", "Who wrote Dune?")
        finally:
            await client.close()

    return asyncio.run(run())


def headers_of(endpoint: StubEndpoint) -> dict[str, str]:
    return {name.lower(): value for name, value in endpoint.sent[-1].headers.items()}


@pytest.mark.parametrize(
    ("suffix", "path", "query"),
    [
        ("", "/v1/chat/completions", {}),
        ("/", "/v1/chat/completions", {}),
        ("/chat/completions", "/v1/chat/completions", {}),
        ("#part", "/v1/chat/completions", {}),
        (
            "/deployments/gpt%2D4?api-version=2024-10-21&x=a%20b",
            "/v1/deployments/gpt-4/chat/completions",
            {"api-version": "2024-10-21", "x": "a b"},
        ),
        (
            "/chat/completions?api-version=1",
            "/v1/chat/completions",
            {"api-version": "1"},
        ),
    ],
)
def test_path_and_query_of_a_base_url_arrive(suffix: str, path: str, query: dict[str, str]) -> None:
    with stub(in_turn(ok())) as endpoint:
        assert asked(endpoint.url + suffix).outcome is Outcome.OK
    assert (endpoint.sent[0].path, endpoint.sent[0].query) == (path, query)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http://", "http://a:b/v1"])
def test_what_is_no_base_url_is_named(url: str) -> None:
    with pytest.raises(EndpointError, match=r"base URL|no URL"):
        asked(url)


def test_user_and_password_of_a_url_are_sent_and_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with stub(in_turn(error(403, "no secretpw here"))) as endpoint:
        result = asked(endpoint.url.replace("http://", "http://me:secretpw@"))
    assert headers_of(endpoint)["authorization"].startswith("Basic ")
    assert (result.outcome, result.detail) == (Outcome.REFUSED, "403: no *** here")
    assert "secretpw" not in caplog.text


@pytest.mark.parametrize("key", ["sk-abc\n", " sk-abc ", "\tsk-abc\r\n"])
def test_space_around_a_key_is_cut_off(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, key)
    with stub(in_turn(ok())) as endpoint:
        assert asked(endpoint.url).outcome is Outcome.OK
    assert headers_of(endpoint)["authorization"] == "Bearer sk-abc"


@pytest.mark.parametrize("key", ["sk-…abc", "sk-\nabc", "sk- abc", "sk-ä", "\x7fsk"])
def test_a_key_that_no_header_can_hold_is_told_in_one_line(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, key)
    with pytest.raises(PoolKeyError) as caught:
        asked("http://127.0.0.1:9/v1")
    message = str(caught.value)
    assert f"the key in ${KEY} holds a character that a header cannot" in message
    assert "\n" not in message
    assert "sk" not in message


def test_a_header_of_the_pool_file_replaces_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-bearer")
    options = RequestOptions(
        extra_headers={"user-agent": "mine"}, extra_headers_env={"authorization": "OWN"}
    )
    monkeypatch.setenv("OWN", " Token planted\n")
    with stub(in_turn(ok())) as endpoint:
        asked(endpoint.url, request=options)
    sent = endpoint.sent[0].headers
    assert [v for k, v in sent.items() if k.lower() == "authorization"] == ["Token planted"]
    assert [v for k, v in sent.items() if k.lower() == "user-agent"] == ["mine"]


def test_a_key_in_the_query_goes_out_and_does_not_come_back() -> None:
    with stub(in_turn(ok("I saw planted-in-the-query"))) as endpoint:
        result = asked(f"{endpoint.url}?key=planted-in-the-query")
    assert endpoint.sent[0].query == {"key": "planted-in-the-query"}
    assert result.text == "I saw ***"


def test_a_placeholder_for_a_key_does_not_eat_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "none")
    with stub(in_turn(ok("none of them"))) as endpoint:
        assert asked(endpoint.url).text == "none of them"


def test_no_key_sends_no_authorization(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "  ")
    with stub(in_turn(ok())) as endpoint:
        asked(endpoint.url)
    assert "authorization" not in headers_of(endpoint)


def test_nothing_of_the_environment_meant_for_others_is_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login planted password planted\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("ORG_ID", "PROJECT_ID", "API_KEY", "BASE_URL", "ADMIN_KEY", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"OPENAI_{name}", "http://planted")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Planted: planted")
    monkeypatch.delenv(KEY, raising=False)
    with stub(in_turn(ok())) as endpoint:
        assert asked(endpoint.url).outcome is Outcome.OK
    headers = headers_of(endpoint)
    assert "planted" not in str(headers)
    assert set(headers) <= {
        *("host", "user-agent", "accept", "accept-encoding", "content-type", "content-length"),
    }


PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY")


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*PROXY_VARIABLES, "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_loopback_is_reached_directly(proxied: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        proxied.setenv(name, "http://127.0.0.1:9")
    with stub(in_turn(ok())) as endpoint:
        assert asked(endpoint.url).outcome is Outcome.OK
        assert asked(endpoint.url.replace("127.0.0.1", "localhost")).outcome is Outcome.OK
        asyncio.run(check_endpoints(pool_at(endpoint.url)))


def test_a_remote_endpoint_is_reached_through_the_proxy(proxied: pytest.MonkeyPatch) -> None:
    """The stub is the proxy: it gets what is for a host that does not exist."""
    with stub(in_turn(ok())) as proxy:
        proxied.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        result = asked("http://pool.invalid/v1")
    assert (result.outcome, result.text) == (Outcome.OK, "Herbert")
    assert headers_of(proxy)["host"] == "pool.invalid"


@pytest.mark.parametrize(
    ("environment", "scheme", "expected"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, "https", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "http", None),
        ({"ALL_PROXY": "http://p:1"}, "https", "http://p:1"),
        ({"https_proxy": "p:1"}, "https", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "host.example"}, "https", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example, other"}, "https", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "https", None),
        ({}, "https", None),
    ],
)
def test_the_proxy_is_the_environments(
    environment: dict[str, str],
    scheme: str,
    expected: str | None,
    proxied: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        proxied.setenv(name, value)
    assert proxy_for(scheme, "host.example") == expected


def test_a_proxy_that_cannot_be_used_is_named(proxied: pytest.MonkeyPatch) -> None:
    proxied.setenv("ALL_PROXY", "socks5://user:pw@p:1")
    with pytest.raises(ProxyError, match=r"ALL_PROXY names a socks5 proxy for host\.example"):
        asked("https://host.example/v1")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *[(h, True) for h in ("localhost", "LOCALHOST.", "a.localhost", "127.3.2.1", "[::1]")],
        *[(h, True) for h in ("0.0.0.0", "::", "::ffff:127.0.0.1")],
        *[(h, False) for h in ("localhost.example", "10.0.0.1", "::2", "128.0.0.1", "")],
    ],
)
def test_loopback_is_known(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


HTML = Answer(raw=b"<html><body>Welcome</body></html>", content_type="text/html")


@pytest.mark.parametrize(
    ("answer", "warning"),
    [
        (Answer({"object": "list", "data": []}), ""),
        (Answer([{"id": "a"}]), ""),
        (Answer({"models": None}), ""),
        (HTML, "text/html that is no JSON"),
        (Answer(raw=b""), "no JSON"),
        (Answer({}, 404), "status 404"),
        (Answer({}, 302, {"Location": "/login"}), "status 302"),
    ],
)
def test_models_of_any_shape_let_the_run_go_on(
    answer: Answer, warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    with stub(in_turn(ok()), in_turn(answer)) as endpoint, caplog.at_level(logging.WARNING):
        asyncio.run(check_endpoints(pool_at(endpoint.url)))
    assert warning in caplog.text
    assert bool(caplog.text) == bool(warning)
    assert not warning or endpoint.url in caplog.text


def test_a_key_that_models_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-planted")
    models = in_turn(error(401, "bad sk-planted"))
    with (
        stub(in_turn(ok()), models) as endpoint,
        pytest.raises(PoolUnreachableError) as caught,
    ):
        asyncio.run(check_endpoints(pool_at(endpoint.url)))
    assert str(caught.value) == f"the pool endpoint {endpoint.url} refuses the key in ${KEY}"


def test_headers_go_out_and_secret_ones_do_not_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_AZURE_KEY", "planted-header\n")
    monkeypatch.delenv(KEY, raising=False)

    def echo(sent: Sent) -> Answer:
        return ok(f"I saw {dict(sent.headers)}")

    options = RequestOptions(
        extra_headers={"X-Title": "Router"}, extra_headers_env={"api-key": "MY_AZURE_KEY"}
    )
    with stub(echo) as endpoint:
        result = asked(endpoint.url, request=options)
    headers = headers_of(endpoint)
    assert (headers["x-title"], headers["api-key"]) == ("Router", "planted-header")
    assert result.text is not None
    assert "planted" not in result.text
    assert "***" in result.text
    monkeypatch.delenv("MY_AZURE_KEY")
    with pytest.raises(PoolKeyError, match=r"api-key needs its value in \$MY_AZURE_KEY"):
        asked(endpoint.url, request=options)

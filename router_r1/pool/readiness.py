"""Whether a pool's endpoints answer, its keys are set and its tools work, as lines of a check."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from router_r1.pool.client import PoolUnreachableError, check_endpoints
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.proxies import is_loopback
from router_r1.pool.tools.member import Tool
from verl.errors import UserError
from verl.utils.checklist import CheckLine, Verdict


def pool_lines(pool: PoolConfig, api_key: str | None) -> list[CheckLine]:
    """A line for each endpoint, key and tool of the pool; asks the endpoints, makes no call."""
    return [*_endpoint_lines(pool, api_key), *map(_tool_line, pool.tools)]


def _tool_line(member: LLMConfig) -> CheckLine:
    subject = f"pool tool {member.name}"
    try:
        return CheckLine(subject, Verdict.OK, Tool(member).description)
    except UserError as error:  # a corpus that cannot be used
        return CheckLine(subject, Verdict.NOT_OK, str(error))


def _endpoint_lines(pool: PoolConfig, api_key: str | None) -> list[CheckLine]:
    if pool.needs_server:
        return [CheckLine("pool", Verdict.OK, f"{pool.name}: simulated, started by the run")]
    if pool.recording.mode == "replay":
        return [CheckLine("pool", Verdict.OK, f"{pool.name}: replayed, no endpoint is asked")]
    endpoints: defaultdict[tuple[str, str], list[LLMConfig]] = defaultdict(list)
    for llm in pool.llms:
        if not llm.is_tool:
            endpoints[llm.base_url or pool.api_base or "", pool.key_variable(llm)].append(llm)
    return [
        *asyncio.run(_ask_all(pool, endpoints, api_key)),
        *_key_lines(list(endpoints), api_key),
    ]


async def _ask_all(
    pool: PoolConfig, endpoints: Mapping[tuple[str, str], list[LLMConfig]], api_key: str | None
) -> list[CheckLine]:
    async def ask(url: str, llms: list[LLMConfig]) -> CheckLine:
        subject = f"pool endpoint {urlsplit(url).netloc}".strip()
        count = f"{len(llms)} LLMs" if len(llms) > 1 else llms[0].name
        try:
            await check_endpoints(replace(pool, llms=llms), api_key)
        except UserError as error:  # or a key, header, URL or proxy that cannot be used
            advice = "see pool.api_base" if isinstance(error, PoolUnreachableError) else ""
            return CheckLine(subject, Verdict.NOT_OK, str(error), count, advice)
        return CheckLine(subject, Verdict.OK, "answers", count)

    return await asyncio.gather(*(ask(url, llms) for (url, _), llms in endpoints.items()))


def _key_lines(places: list[tuple[str, str]], api_key: str | None) -> list[CheckLine]:
    """One line a variable; a server of this machine may want none."""
    if api_key:
        return [CheckLine("pool key", Verdict.OK, "api_key is given, for all endpoints")]
    lines = []
    for variable in dict.fromkeys(variable for _, variable in places if variable):
        subject = f"pool key ${variable}"
        hosts = [urlsplit(url).hostname or "" for url, name in places if name == variable]
        if os.environ.get(variable):
            lines.append(CheckLine(subject, Verdict.OK, "set"))
        elif all(map(is_loopback, hosts)):
            lines.append(CheckLine(subject, Verdict.OK, "not set; local servers want none"))
        else:
            advice = f"export {variable}=…, unless the server wants none"
            lines.append(CheckLine(subject, Verdict.UNKNOWN, "not set", advice=advice))
    return lines

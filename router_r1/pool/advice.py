"""Which request option to change, by an endpoint's own words about a request that it refuses."""

from __future__ import annotations

import re
from dataclasses import replace

import yaml

from router_r1.pool.request_options import (
    KEYS_ELSEWHERE,
    SAMPLING_FIELDS,
    STREAM_OPTIONS,
    RequestOptions,
)
from verl.config.validation import changed_fields

_TOO_LONG = re.compile(
    r"context.?(?:length|window|size)|(?:prompt|input|messages?) (?:is |are )?too (?:long|large)|"
    r"too many (?:input )?tokens|maximum (?:input|prompt|model) length",
    re.IGNORECASE,
)
_WANTS_STREAM = re.compile(
    r"stream(?:ing)? (?:mode )?(?:is |are )?(?:required|only)|only supports? (?:the )?stream|"
    r"(?:must|set|require\w*|need\w*|with|use) (?:\w+ ){0,3}[`'\"]?stream(?!_)(?!\w*options)",
    re.IGNORECASE,
)
_WANTS_VALUE = re.compile(r"(\w+)[`'\"]? (?:must|should|has to) be (?:set to )?(true|false)", re.I)
_INSTEAD = re.compile(r"(?:use|did you mean|try)\W{1,3}(\w+)", re.IGNORECASE)
_RENAMES = {"max_tokens": "max_completion_tokens", "seed": "random_seed"}


def refused_fields(words: str, sent: tuple[str, ...]) -> list[str]:
    """Which of the fields sent an endpoint names when it refuses a request; none if the query is
    too long for the LLM, which also is told in terms of ``max_tokens``."""
    if _TOO_LONG.search(words):
        return []
    # "use max_completion_tokens instead" names no culprit.
    culprits = _INSTEAD.sub("", words)
    return [name for name in sent if _names(culprits, name)]


def _names(words: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words) is not None


def advise(words: str, options: RequestOptions) -> RequestOptions | None:
    """The options that the endpoint asks for, or None if its words name no change to make."""
    if wanted := _WANTS_VALUE.search(words):
        name, value = wanted.group(1), wanted.group(2).lower() == "true"
        if name == "stream":
            return None if options.stream == value else replace(options, stream=value)
        free = name not in KEYS_ELSEWHERE and name not in SAMPLING_FIELDS
        if free and options.extra_body.get(name) is not value:
            return replace(options, extra_body={**options.extra_body, name: value})
    if not options.stream and _WANTS_STREAM.search(words):
        return replace(options, stream=True)
    names = {name: options.rename.get(name, name) for name in SAMPLING_FIELDS}
    sent = tuple(names[name] for name in SAMPLING_FIELDS if name not in options.omit)
    refused = refused_fields(words, (*sent, *options.extra_body, *options.stream_fields()))
    if "both" in words and {"temperature", "top_p"} <= set(refused):
        refused.remove("temperature")  # top_p is 1, which is to say nothing
    changed = options
    if STREAM_OPTIONS in refused:
        changed = replace(changed, omit=[*changed.omit, STREAM_OPTIONS])
    for field, name in names.items():
        if name in refused:
            changed = _without(changed, field, words)
    kept = {k: v for k, v in changed.extra_body.items() if k not in refused}
    changed = replace(changed, extra_body=kept)
    return None if changed == options else changed


def _without(options: RequestOptions, field: str, words: str) -> RequestOptions:
    """The field under the name that the endpoint gives; ``max_tokens`` under its newer name, since
    it bounds what a call costs; else left out."""
    newer = _RENAMES.get(field)
    rename = {k: v for k, v in options.rename.items() if k != field}
    if newer and field not in options.rename and (field == "max_tokens" or _names(words, newer)):
        return replace(options, rename={**rename, field: newer})
    if field == "max_tokens":
        return options
    extra = {k: v for k, v in options.extra_body.items() if k != field}
    return replace(options, rename=rename, extra_body=extra, omit=[*options.omit, field])


def as_yaml(options: RequestOptions) -> str:
    """The options as they stand in a pool file."""
    changed = {"request": changed_fields(options)}
    return str(yaml.safe_dump(changed, default_flow_style=None, sort_keys=False)).strip()

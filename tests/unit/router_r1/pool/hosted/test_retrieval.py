from __future__ import annotations

import math

import pytest

from router_r1.evaluation.baselines.retrieval import substitute
from router_r1.pool.hosted.retrieval import passages_reply
from router_r1.pool.tools.bm25 import BM25, NOTHING_FOUND
from router_r1.world.simulated_llm import World


def test_bm25_gives_the_values_computed_by_hand() -> None:
    """Lengths 2, 3, 1, mean 2; idf(a) = ln 1.6, idf(c) = ln(8/3); k1 = 1.5, b = 0.75."""
    index = BM25(["a b", "A c, c", "d"])
    first, second = index.search("a", 5)
    assert (first.index, second.index) == (0, 1)
    assert first.score == pytest.approx(math.log(1.6) * 2.5 / 2.5)
    assert second.score == pytest.approx(math.log(1.6) * 2.5 / (1 + 1.5 * 1.375))
    (only,) = index.search("c", 5)
    assert only.score == pytest.approx(math.log(8 / 3) * 2 * 2.5 / (2 + 1.5 * 1.375))
    assert index.search("a c", 5)[0].score == pytest.approx(second.score + only.score)


def test_bm25_keeps_the_limit_the_order_of_ties_and_finds_nothing_unshared() -> None:
    index = BM25(["x one", "x two", "x three"])
    assert [hit.index for hit in index.search("x", 2)] == [0, 1]
    assert index.search("unheard of", 3) == []
    with pytest.raises(ValueError, match="at least one document"):
        BM25([])


def test_a_reply_holds_the_passages_and_bills_their_words() -> None:
    index = BM25(["the cat sat", "a dog ran far", "the cat ran"])
    reply = passages_reply(index, 2, "where is the cat")
    assert reply.text.splitlines() == ["the cat sat", "the cat ran"]
    assert (reply.prompt_tokens, reply.completion_tokens) == (4, 6)
    assert passages_reply(index, 2, "zebra").text == NOTHING_FOUND


def test_the_worlds_corpus_has_gaps_and_errors(world: World) -> None:
    corpus = world.knowledge.documents()
    assert corpus == World(world.config).knowledge.documents()
    facts = world.knowledge.facts
    right = {f"The {relation} of {s} is {answer}." for (relation, s), answer in facts.items()}
    told_right = sum(document in right for document in corpus)
    assert 0.55 < len(corpus) / len(facts) < 0.65
    assert 0.88 < told_right / len(corpus) < 0.92


@pytest.mark.parametrize(
    ("question", "passage", "rest"),
    [
        (
            "Who is the chair of the club of Bo Ra?",
            "The club of Bo Ra is Ta Mi.",
            "Who is the chair of Ta Mi?",
        ),
        ("Who is the coach of Bo Ra?", "The coach of Bo Ra is Li Po.", "Who is Li Po?"),
        ("Who is the coach of Bo Ra?", "The club of Bo Ra is Ta Mi.", None),
        ("Who is the coach of Bo Ra?", "Nothing to read here", None),
    ],
)
def test_a_statement_found_shortens_the_question(
    question: str, passage: str, rest: str | None
) -> None:
    assert substitute(question, passage) == rest

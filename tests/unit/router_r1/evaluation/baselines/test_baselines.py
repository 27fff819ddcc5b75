from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from router_r1.evaluation.answer import Answer, extract_short_answer
from router_r1.evaluation.baselines.base import Baseline, SingleShot, TrainingSet
from router_r1.evaluation.baselines.embedding import (
    EmbeddedTexts,
    TfidfEmbedder,
    load_embedder,
)
from router_r1.evaluation.baselines.fixed import BestSingle, RandomRouter, SingleLLM
from router_r1.evaluation.baselines.graph import GraphRouter
from router_r1.evaluation.baselines.learned import (
    FusionRouter,
    carrot_router,
    knn_router,
    mlp_router,
)
from router_r1.evaluation.baselines.registry import BASELINES, Setting, make_baselines
from router_r1.evaluation.baselines.retrieval import RetrievalLoop
from router_r1.evaluation.benchmark import Prompt
from router_r1.evaluation.compare_options import DEFAULT_EMBEDDER
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.outcome import CallResult, Outcome
from verl.config.validation import ConfigError

LLMS = ("Painter", "Pianist", "Cheap")
QUALITY = {"painting": (0.95, 0.05, 0.4), "sonata": (0.05, 0.95, 0.4)}
COST = (40.0, 50.0, 2.0)


def prompts(count: int, seed: int) -> list[Prompt]:
    rng = np.random.default_rng(seed)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    names = ["".join(rng.choice(letters, 6)).capitalize() for _ in range(count)]
    kinds = [("painting", "sonata")[i % 2] for i in range(count)]
    return [Prompt("toy", f"Who made the {k} of {n}?") for k, n in zip(kinds, names, strict=True)]


def domain(prompt: Prompt) -> str:
    return next(kind for kind in QUALITY if kind in prompt.text)


@pytest.fixture(scope="module")
def train() -> TrainingSet:
    """Two domains told apart by one word; outcomes are drawn."""
    questions = prompts(240, seed=1)
    rng = np.random.default_rng(2)
    chances = np.array([QUALITY[domain(prompt)] for prompt in questions])
    quality = (rng.random(chances.shape) < chances).astype(np.float64)
    cost = np.array(COST) * rng.uniform(0.9, 1.1, chances.shape)
    embedder = TfidfEmbedder()
    embedder.fit([prompt.text for prompt in questions])
    return TrainingSet(questions, LLMS, quality, cost, embedder)


def routes(router: SingleShot, count: int = 60) -> list[tuple[str, list[str]]]:
    return [(domain(prompt), router.route(prompt)) for prompt in prompts(count, seed=3)]


ROUTERS: dict[str, Callable[[], SingleShot]] = {
    "knn": knn_router,
    "mlp": lambda: mlp_router(seed=0),
    "carrot": lambda: carrot_router(0.0),
    "graph": lambda: GraphRouter(seed=0, epochs=100),
    "fusion": lambda: FusionRouter(seed=0, asked=1),
}


@pytest.mark.parametrize("name", ROUTERS)
def test_a_router_learns_which_llm_knows_what(name: str, train: TrainingSet) -> None:
    router = ROUTERS[name]()
    router.fit(train)
    best = {"painting": ["Painter"], "sonata": ["Pianist"]}
    right = [asked == best[kind] for kind, asked in routes(router)]
    assert np.mean(right) >= 0.95


@pytest.mark.parametrize("name", ["mlp", "graph", "fusion"])
def test_the_same_seed_routes_the_same(name: str, train: TrainingSet) -> None:
    first, second = ROUTERS[name](), ROUTERS[name]()
    first.fit(train)
    np.random.default_rng().random()
    second.fit(train)
    assert routes(first) == routes(second)


def test_carrots_lambda_only_ever_saves(train: TrainingSet) -> None:
    price = dict(zip(LLMS, COST, strict=True))
    costs = []
    for weight in (0.0, 0.1, 0.2, 0.35, 0.5, 1.0, 3.0):
        router = carrot_router(weight)
        router.fit(train)
        costs.append(sum(price[asked[0]] for _, asked in routes(router)))
    assert all(before >= after for before, after in itertools.pairwise(costs))
    assert costs[0] > 10 * costs[-1]


def test_fusion_votes_by_what_was_learnt(train: TrainingSet) -> None:
    router = FusionRouter(seed=0)
    router.fit(train)
    painting, sonata = prompts(2, seed=4)
    assert router.route(painting)[0] == "Painter"
    split = {"Painter": "Goya", "Pianist": "Liszt", "Cheap": "goya."}
    assert router.aggregate(painting, split) == "Goya"
    alone = {"Painter": "Goya", "Pianist": "Liszt", "Cheap": "Anon"}
    assert router.aggregate(painting, alone) == "Goya"
    assert router.aggregate(sonata, alone) == "Liszt"
    assert router.aggregate(sonata, {}) == ""


def test_fixed_baselines_follow_the_prices(embedded_pool: PoolConfig) -> None:
    made = make_baselines(["single", "cheapest", "largest"], setting(embedded_pool.offered))
    names = [llm.name for llm in embedded_pool.offered]
    assert [b.name for b in made] == [*names, "cheapest (Fornax)", "largest (Borealis)"]
    asked = [b.route(Prompt("toy", "Who?")) for b in made if isinstance(b, SingleLLM)]
    assert asked == [[name] for name in [*names, "Fornax", "Borealis"]]


def test_the_best_single_llm_is_that_of_the_training_questions() -> None:
    questions, embedder = prompts(4, seed=6), TfidfEmbedder()
    quality = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]], float)
    router = BestSingle()
    # Painter, Pianist and Cheap are right as often; then without Cheap's second.
    router.fit(TrainingSet(questions, LLMS, quality, np.tile(COST, (4, 1)), embedder))
    assert (router.name, router.route(questions[0])) == ("best (Cheap)", ["Cheap"])
    quality[0, 2] = 0
    router.fit(TrainingSet(questions, LLMS, quality, np.tile(COST, (4, 1)), embedder))
    assert router.route(questions[1]) == ["Painter"]


def test_random_is_uniform_and_a_function_of_seed_and_question() -> None:
    router = RandomRouter(LLMS, seed=0)
    asked = [router.route(prompt)[0] for prompt in prompts(600, seed=5)]
    assert asked == [RandomRouter(LLMS, 0).route(prompt)[0] for prompt in prompts(600, seed=5)]
    assert asked != [RandomRouter(LLMS, 1).route(prompt)[0] for prompt in prompts(600, seed=5)]
    assert min(asked.count(llm) for llm in LLMS) > 150


class Library:
    """Replies from a table; keeps what it was asked."""

    def __init__(self, replies: dict[tuple[str, str], str]) -> None:
        self.replies = replies
        self.asked: list[tuple[str, str]] = []

    async def ask(self, llm: str, query: str) -> CallResult:
        self.asked.append((llm, query))
        text = self.replies.get((llm, query))
        if text is None:
            return CallResult(llm, Outcome.TIMEOUT)
        return CallResult(llm, Outcome.OK, text, 3, 5, cost=5.0, dollars=5e-6)


def answer(baseline: Baseline, text: str, library: Library) -> Answer:
    return asyncio.run(baseline.answer(Prompt("toy", text), library.ask))


def test_retrieval_reads_its_way_through_two_hops() -> None:
    question = "Who is the chair of the club of Bo Ra?"
    library = Library(
        {
            ("Search", question): "The club of Bo Ra is Ta Mi.\nThe club of Bo Li is Ru Do.",
            ("Search", "Who is the chair of Ta Mi?"): "The chair of Ta Mi is Ne Vo.",
        }
    )
    given = answer(RetrievalLoop("Search"), question, library)
    assert given.text == "Ne Vo"
    assert [call.query for call in given.calls] == [query for _, query in library.asked]
    assert len(given.calls) == 2


def test_retrieval_hands_passages_to_its_reader() -> None:
    asked = "Passage one.\n\nWho?"
    library = Library({("Search", "Who?"): "Passage one.", ("Atlas", asked): "It was Ne Vo."})
    given = answer(RetrievalLoop("Search", reader="Atlas"), "Who?", library)
    assert (given.text, len(given.calls)) == ("Ne Vo", 2)


def test_a_call_that_fails_leaves_no_answer() -> None:
    for baseline in (SingleLLM("Atlas"), RetrievalLoop("Search")):
        given = answer(baseline, "Who?", Library({}))
        assert (given.text, len(given.calls)) == ("", 1)


@pytest.mark.parametrize(
    ("reply", "short"),
    [
        ("The director of Bo Ra is Ta Mi.", "Ta Mi"),
        ("The Who is the director of Bo Ra is Ta Mi.", "Ta Mi"),
        ("Paris", "Paris"),
        (" Paris.\n", "Paris"),
        ("I am sure. The author is J. R. R. Tolkien.", "J. R. R. Tolkien"),
        ("It was Ann Lee. She lived in Rome.", "Ann Lee"),
        ("The answer is: **42**", "42"),
        ("The islands are\nMalta", "The islands are\nMalta"),
        ("I do not know.", "I do not know"),
        ("", ""),
    ],
)
def test_the_short_answer_of_a_reply(reply: str, short: str) -> None:
    assert extract_short_answer(reply) == short


def test_an_embedder_can_be_plugged_in() -> None:
    assert isinstance(load_embedder(DEFAULT_EMBEDDER), TfidfEmbedder)
    for path in ("nowhere.Class", "Class", "router_r1.evaluation.compare.nothing", "json.dumps"):
        with pytest.raises(ConfigError, match="--embedder"):
            load_embedder(path)
    with pytest.raises(ConfigError, match="no fit and embed"):
        load_embedder("builtins.object")


def test_texts_embedded_in_one_go_are_those_embedded_alone() -> None:
    texts = [prompt.text for prompt in prompts(30, seed=7)]
    embedder = TfidfEmbedder()
    embedder.fit(texts[:20])
    known = EmbeddedTexts(embedder, texts)
    for text in texts[15:]:
        assert known.embed([text]) == pytest.approx(embedder.embed([text]))
    with pytest.raises(KeyError):
        known.embed(["Who else?"])


def setting(llms: Sequence[LLMConfig]) -> Setting:
    return Setting({llm.name: llm.completion_price for llm in llms}, 0, cost_weights=[0.0, 0.5])


def test_the_registry_makes_what_is_asked_for(embedded_pool: PoolConfig) -> None:
    made = make_baselines(["carrot", "single"], setting(embedded_pool.offered))
    names = [llm.name for llm in embedded_pool.offered]
    assert [c.name for c in made] == [*names, "CARROT λ=0", "CARROT λ=0.5"]
    everything = make_baselines(None, setting(embedded_pool.offered))
    assert not {"retrieval", "oracle"} & {baseline.kind for baseline in everything}
    with pytest.raises(ConfigError, match="no such baseline: nonsense") as error:
        make_baselines(["nonsense"], setting(embedded_pool.offered))
    assert all(name in str(error.value) for name in BASELINES)
    with pytest.raises(ConfigError, match="needs --retriever"):
        make_baselines(["retrieval"], setting(embedded_pool.offered))

"""What is told of a router's run: the pool's metrics, alarms, tables, pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from router_r1.config import RouterConfig
from router_r1.forecast import spending_totals
from router_r1.reward.cost import RewardScales
from router_r1.summary import write_summary
from router_r1.surroundings import RoutingSurroundings
from verl.config.alarms import AlarmRule
from verl.forecast import RunningTotal
from verl.task import Reports, TrainingReport
from verl.utils.checkpoints import config_of_run
from verl.utils.console import console

if TYPE_CHECKING:
    from verl.utils.plots import Chart

_ALARMS = (
    AlarmRule(
        "reward/format_failure",
        above=0.3,
        rises_to=1.5,
        advice="the policy loses the tags; look at validation/*.jsonl, lower the actor's lr or "
        "raise the KL's coefficient",
    ),
    AlarmRule(
        "reward/route_cnt",
        falls_to=0.3,
        rises_to=2.5,
        advice="calls per question: the policy answers without the pool, or asks on and on; look "
        "at cost_coe and at validation/*.jsonl",
    ),
)


@dataclass(frozen=True)
class RoutingReports(Reports):
    """Of a routing task: what its pool's client has counted; ``scales`` gives those by which the
    reward weighs costs and seconds from now on."""

    config: RouterConfig
    surroundings: RoutingSurroundings
    scales: Callable[[], RewardScales]

    def metrics(self) -> dict[str, float]:
        """``pool/*``: how calls ended, and what was spent."""
        client = self.surroundings.client
        return client.ledger.collect_metrics() | client.health.collect_metrics()

    def running_totals(self) -> tuple[RunningTotal, ...]:
        """What the calls have cost; nothing for a pool that costs nothing."""
        return spending_totals(self.surroundings.pool)

    def charts(self) -> Sequence[Chart]:
        """Reward, EM, cost, calls, entropy and KL."""
        from router_r1.evaluation.charts import routing_charts  # draws, which costs time to import

        return routing_charts()

    def alarm_rules(self) -> tuple[AlarmRule, ...]:
        """Formats that fail, and a policy that stops calling or calls without end."""
        return _ALARMS

    def facts(self) -> dict[str, Any]:
        """The pool, and what the reward weighs."""
        reward, scales = self.config.reward, asdict(self.scales())
        return {
            "pool": self.surroundings.pool.name,
            "reward_metric": reward.function or self.config.reward_metric,
            "cost_coe": self.config.cost_coe,
            "cost_scale": scales["cost"],
            "cost_unit": reward.cost_unit,
            "latency_coe": reward.latency_coe,
            "latency_scale": scales["latency"],
            "reward_form": reward.form,
            "normalization": reward.normalization,
            "never_trained": self._never_trained(),
        }

    def _never_trained(self) -> list[str]:
        """LLMs that this evaluation may offer a question and the run of its model never offered."""
        offer, named = self.config.offer, self.config.evaluation.model_path
        own = Path(self.config.trainer.default_local_dir) / "config.yaml"
        path = config_of_run(Path(named)) if named else own
        if offer is None or path is None or not path.is_file():
            return []
        trained: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        seen = {llm["name"] for llm in trained["pool"]["llms"] if llm["in_prompt"]}
        seen -= set((trained["offer"] or {}).get("held_out", ()))
        offered = {llm.name for llm in self.config.pool.offered} - set(offer.held_out)
        return sorted(offered - seen)

    def evaluation(self, folder: Path) -> None:
        """The table on the terminal, and the page."""
        from router_r1.evaluation.report.page import write_report  # as above
        from router_r1.evaluation.score_tables import print_results

        print_results(folder)
        page = write_report(folder, Path(self.config.trainer.default_local_dir))
        console.print(f"report: {page}", highlight=False)

    def training(self, report: TrainingReport) -> None:
        """Writes ``summary.json`` and shows the end tables."""
        seconds, ledger = self.surroundings.cold_start_seconds, self.surroundings.client.ledger
        write_summary(report, self.config, seconds, ledger, self.scales())

"""What is reported of a routed trajectory, and under which names."""

from __future__ import annotations

from verl.columns import REWARD, Column

COLUMNS = (
    Column("em", "EM", validation="EM", step_metric="reward/em", repeated=True),
    Column("f1", "F1", validation="F1"),
    Column("cost", "cost", "cost", step_metric="critic/cost/mean", form="{:6.2f}"),
    REWARD,
    Column(
        "route_cnt",
        "calls",
        validation="route_cnt",
        step_metric="env/number_of_valid_route",
        form="{:.2f}",
    ),
)

AGENT_METRICS = {
    "env/finish_ratio": "finished",
    "env/number_of_valid_action": "valid_actions",
    "env/number_of_valid_route": "routed_calls",
    "env/number_of_failed_calls": "failed_calls",
    "env/dollars": "dollars",
}

"""Validation file: 100 random test rows of each source, in one parquet file."""

from data_process.preparation import Preparation
from data_process.script import run

PREPARATION = Preparation(
    splits=("test", "dev", "train"),
    num_samples=100,
    file_name="test_nh_{model}.parquet",
    default_sources=("nq", "hotpotqa"),
)

if __name__ == "__main__":
    run(PREPARATION, str(__doc__))

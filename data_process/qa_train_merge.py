"""Training file: 7000 random training rows of each source, in one parquet file."""

from data_process.preparation import Preparation
from data_process.script import run

PREPARATION = Preparation(
    splits=("train",),
    num_samples=7000,
    file_name="train_nh_{model}.parquet",
    default_sources=("nq", "hotpotqa"),
)

if __name__ == "__main__":
    run(PREPARATION, str(__doc__))

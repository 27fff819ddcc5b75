"""Benchmark files: 500 random test rows of each source, one parquet file a source."""

from data_process.preparation import DATASETS, Preparation
from data_process.script import run

PREPARATION = Preparation(
    splits=("test", "dev", "train"),
    num_samples=500,
    file_name="test_{source}_{model}.parquet",
    default_sources=DATASETS,
)

if __name__ == "__main__":
    run(PREPARATION, str(__doc__))

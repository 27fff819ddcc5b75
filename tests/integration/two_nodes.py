"""``python two_nodes.py``: a Ray cluster of two nodes, started from the working folder.

Each node has one CPU slot, the second says that it has a GPU; which is a claim. Prints the head's
address and lives until its standard input ends.
"""

from __future__ import annotations

import logging
import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1, num_gpus=1)
    sys.stdout.write(f"address={cluster.address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()

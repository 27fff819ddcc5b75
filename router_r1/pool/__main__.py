"""``python -m router_r1.pool``: the same as ``router-r1 pool``."""

from __future__ import annotations

import sys

from router_r1.pool.command import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m router_r1.cli``: ``router-r1``, also where its script is not on PATH."""

from router_r1.cli.command import main

if __name__ == "__main__":
    main()

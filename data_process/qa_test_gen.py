"""The benchmark files: ``router-r1 data test`` as a script."""

from data_process.command import run

if __name__ == "__main__":
    run("test")

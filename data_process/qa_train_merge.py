"""The training file: ``router-r1 data train`` as a script."""

from data_process.command import run

if __name__ == "__main__":
    run("train")

"""The validation file: ``router-r1 data validation`` as a script."""

from data_process.command import run

if __name__ == "__main__":
    run("validation")

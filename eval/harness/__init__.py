"""The parts of `run.py`: the suite, environments, worker processes, interleaved rounds, results."""

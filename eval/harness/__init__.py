"""What `run.py` is made of: the suite, environments, worker processes, interleaved rounds, results."""

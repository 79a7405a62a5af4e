"""Torture: bad inputs, failing disks, kills, mutated files, loaded servers and hostile names, by the thousand.

`python -m tests.torture` (or `make torture`) runs everything in bounded time; see CONTRIBUTING.md. Not collected by pytest.
"""

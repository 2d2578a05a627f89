"""What attparse costs beside other ways to do the same: `python -m benchmarks` prints one table."""

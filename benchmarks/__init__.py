"""Speed and accuracy suites; every figure the README shows comes from `results/`."""

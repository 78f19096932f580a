"""Fuzzing of everything that reads what others wrote: `python -m tests.fuzz`, see docs/how-to/fuzz.md."""

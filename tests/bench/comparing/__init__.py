"""What tests/bench/compare is made of: arithmetic, rows, both sides, report."""


class CompareError(Exception):
    """What is missing or went wrong, in a sentence."""

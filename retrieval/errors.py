"""What can go wrong with retrieval, as a person can act on it."""


class RetrievalError(Exception):
    """An index, a vote or a guard that cannot do what was asked."""

"""Retrieval: similar labelled cases, found by the similarity of their images."""

from retrieval.neighbour import Neighbour

__all__ = ["Neighbour"]

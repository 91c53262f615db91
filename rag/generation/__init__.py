"""Answers from a context, with citations that are checked."""

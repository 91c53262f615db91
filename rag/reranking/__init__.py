"""Rerankers: they order anew what a retriever found."""

"""Choosing the chunks an answer is made from, under a token budget."""

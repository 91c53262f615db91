"""The evaluation door to Kvasir. Write ``from eval.x import y``, never ``import eval``: that hides the builtin."""

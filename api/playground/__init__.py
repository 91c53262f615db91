"""The page served at /: asking, searching and seeing what every stage did. Its files stand in ``assets``."""

"""Results of a tool within a bound of tokens: what a language model gets back, it has to read."""

from __future__ import annotations

from collections.abc import Sequence

from rag.encoders import SentenceEncoder


def fitted(texts: Sequence[str], most: int, encoder: SentenceEncoder) -> tuple[list[str], str]:
    """(the first texts of together at most ``most`` tokens of the encoder's tokenizer, what was done to the others).

    The text that goes beyond is cut, those behind it are left out; the note is empty where all fit.
    """
    kept: list[str] = []
    if not texts:
        return kept, ""
    for encoded, text in zip(
        encoder.counting_tokenizer().encode_batch(list(texts), add_special_tokens=False), texts, strict=True
    ):
        if len(encoded.ids) > most:
            kept += [text[: encoded.offsets[most - 1][1]]] if most else []
            break
        kept.append(text)
        most -= len(encoded.ids)
    left = len(texts) - len(kept)
    cut = bool(kept) and kept[-1] != texts[len(kept) - 1]
    said = [f"{left} more were left out" if left else "", "the last text is cut" if cut else ""]
    return kept, " and ".join(filter(None, said)) + (" to stay within the limit of tokens" if left or cut else "")

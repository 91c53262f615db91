"""The small collection of the tests: 40 invented islands, five documents on each, and the awkward ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from indexes.corpus import Document

ISLANDS = (
    "Torvay", "Brunskar", "Hollin", "Ostrevik", "Maddoch", "Selkirra", "Vendel", "Quillan", "Pentrow",
    "Aldersey", "Corvane", "Drummel", "Eskholm", "Fallowick", "Grimsund", "Haverin", "Inchmoor", "Jorvalla",
    "Kestrel", "Lundmark", "Morvenna", "Narrowby", "Orsgard", "Pellworm", "Ravensay", "Skarholt", "Tidewell",
    "Ulverness", "Varrick", "Westerra", "Yarholm", "Zennick", "Ambleray", "Birkoe", "Calloway", "Dunsley",
    "Erraby", "Fennmark", "Gullane", "Hathersay",
)  # fmt: skip


@dataclass(frozen=True)
class Aspect:
    """A kind of document: its title and text, made from an island's name and number."""

    title: str
    text: Callable[[str, int], str]


ASPECTS = {
    "lighthouse": Aspect(
        "The lighthouse of {}",
        lambda name, i: (
            f"The lighthouse of {name} was built in {1800 + 3 * i}. It is {20 + i} metres tall and its lamp is seen "
            f"from {10 + i % 7} miles away. Keepers lived in the tower until the lamp became automatic."
        ),
    ),
    "ferry": Aspect(
        "Ferries to {}",
        lambda name, i: (
            f"The ferry to {name} leaves the mainland every {15 + i} minutes. The crossing takes {30 + 2 * i} minutes "
            "in calm weather. Bicycles travel free, cars need a ticket."
        ),
    ),
    "cheese": Aspect(
        "{} cheese",
        lambda name, i: (
            f"Cheese from {name} ripens for {3 + i % 9} months in sea caves. The milk comes from {100 + 10 * i} goats. "
            "Its rind is washed with brine and tastes of smoke."
        ),
    ),
    "festival": Aspect(
        "The fair of {}",
        lambda name, i: (
            f"Each summer {name} holds a fiddle festival. It lasts {2 + i % 5} days and ends with a boat race around "
            "the harbour. Visitors sleep in tents on the common."
        ),
    ),
    "birds": Aspect(
        "Birds on {}",
        lambda name, i: (
            f"About {1000 + 50 * i} puffins nest on the northern cliffs of {name}. They arrive in April and leave in "
            "August. Cats are banned from the island while the chicks are small."
        ),
    ),
}

TWIN = "Tide tables are printed by the harbour office and sold at the pier."


def small_documents() -> Iterator[Document]:
    """206 documents in a fixed order; the twins share a text and stand in the order opposite to their ids."""
    for i, name in enumerate(ISLANDS):
        for aspect, made in ASPECTS.items():
            yield Document(
                f"{name.lower()}-{aspect}",
                made.title.format(name),
                made.text(name, i),
                {"aspect": aspect, "island": name, "year": 1990 + i % 30},
            )
    yield Document("twin-b", "", TWIN, {"aspect": "tides"})
    yield Document("twin-a", "", TWIN, {"aspect": "tides"})
    yield Document("empty", "", "", {"aspect": "none"})
    yield Document("title-only", "Shipwreck register", "", {"aspect": "wrecks"})
    yield Document(
        "spaced", "Fog horns", "  The horn\n sounds  twice a minute in fog. \n\n It is louder\tthan the bell.  ", {}
    )
    yield Document(
        "long",
        "History of the archipelago",
        " ".join(
            f"In the year {1500 + 10 * n} the council met for the {n + 1}th time and wrote its law on vellum."
            for n in range(40)
        ),
        {"aspect": "history"},
    )

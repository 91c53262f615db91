"""rerankers, by its client of TEI, which sends a model that means nothing."""

from rerankers import Reranker
from told import Given, Hits, main, row


@row
def rerankers_tei(given: Given) -> Hits:
    asks = Reranker("text-embeddings-inference", url=f"{given.url}/rerank", api_key="key")
    found = asks.rank(query=given.query, docs=given.documents)
    return [(one.doc_id, one.score, one.text) for one in found.results]


if __name__ == "__main__":
    main()

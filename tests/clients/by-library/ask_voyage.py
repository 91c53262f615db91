"""voyageai, which reads its results under another name."""

import voyageai
from told import Given, Hits, main, row


@row
def voyage(given: Given) -> Hits:
    client = voyageai.Client(api_key="key", base_url=f"{given.url}/v1")
    answer = client.rerank(given.query, given.documents, model=given.model, top_k=given.top_n)
    assert answer.total_tokens > 0
    return [(one.index, one.relevance_score, one.document) for one in answer.results]


if __name__ == "__main__":
    main()

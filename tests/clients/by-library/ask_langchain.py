"""langchain-cohere and langchain-community, whose Jina client knows one address only."""

import infinity_client
import langchain_community.document_compressors.jina_rerank as jina
from langchain_cohere import CohereRerank
from langchain_community.document_compressors.infinity_rerank import InfinityRerank
from told import Given, Hits, main, row


def _pairs(found: list[dict]) -> Hits:
    return [(one["index"], one["relevance_score"]) for one in found]


@row
def langchain_cohere(given: Given) -> Hits:
    asks = CohereRerank(base_url=given.url, cohere_api_key="key", model=given.model, top_n=given.top_n)
    return _pairs(asks.rerank(given.documents, given.query))


@row
def langchain_jina(given: Given) -> Hits:
    jina.JINA_API_URL = f"{given.url}/v1/rerank"
    asks = jina.JinaRerank(jina_api_key="key", model=given.model, top_n=given.top_n)
    return _pairs(asks.rerank(given.documents, given.query))


@row
def langchain_infinity(given: Given) -> Hits:
    client = infinity_client.Client(base_url=given.url)
    asks = InfinityRerank(client=client, model=given.model, top_n=given.top_n)
    return _pairs(asks.rerank(given.documents, given.query))


if __name__ == "__main__":
    main()

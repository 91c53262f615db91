"""cohere-haystack and jina-haystack; the one asks for ten whatever there is, the other wants the whole address."""

from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.rankers.cohere import CohereRanker
from haystack_integrations.components.rankers.jina import JinaRanker
from told import Given, Hits, main, row

KEY = Secret.from_token("key")


def _ordered(asks, given: Given) -> Hits:
    found = asks.run(query=given.query, documents=[Document(content=text) for text in given.documents])
    return [(given.documents.index(one.content), one.score) for one in found["documents"]]


@row
def haystack_cohere(given: Given) -> Hits:
    return _ordered(CohereRanker(api_key=KEY, api_base_url=given.url, model=given.model), given)


@row
def haystack_jina(given: Given) -> Hits:
    asks = JinaRanker(api_key=KEY, base_url=f"{given.url}/v1/rerank", model=given.model, top_k=given.top_n)
    return _ordered(asks, given)


if __name__ == "__main__":
    main()

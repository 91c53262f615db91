"""cohere: both of its clients, 5.x and 7.x."""

import cohere
from told import Given, Hits, main, row


@row
def cohere_v2(given: Given) -> Hits:
    client = cohere.ClientV2(given.key, base_url=given.url)
    answer = client.rerank(model=given.model, query=given.query, documents=given.documents, top_n=given.top_n)
    assert answer.meta.api_version.version == "2"
    return [(one.index, one.relevance_score) for one in answer.results]


@row
def cohere_v1(given: Given) -> Hits:
    client = cohere.Client(given.key, base_url=given.url)
    first, *rest = given.documents
    answer = client.rerank(
        model=given.model,
        query=given.query,
        documents=[{"text": first}, *rest],
        top_n=given.top_n,
        return_documents=True,
    )
    return [(one.index, one.relevance_score, one.document.text) for one in answer.results]


@row
def cohere_extensions(given: Given) -> list[str]:
    client = cohere.ClientV2(given.key, base_url=given.url)
    answer = client.rerank(model=given.model, query=given.query, documents=given.documents, max_tokens_per_doc=2)
    return [answer.score_kind, answer.meta.warnings[0]]


@row
def cohere_error(given: Given) -> str:
    client = cohere.ClientV2(given.key, base_url=given.url)
    try:
        client.rerank(model="no-such-model", query=given.query, documents=given.documents)
    except cohere.UnprocessableEntityError as error:
        return str(error.body["detail"])
    return "nothing was raised"


if __name__ == "__main__":
    main()

"""litellm in the words of six servers; each is one of its providers."""

import litellm
from told import Given, Hits, main, row


def _ordered(given: Given, provider: str, **more) -> Hits:
    answer = litellm.rerank(
        model=f"{provider}/{given.model}",
        query=given.query,
        documents=given.documents,
        top_n=given.top_n,
        api_base=given.url,
        api_key="key",
        **more,
    )
    return [
        (one["index"], one["relevance_score"], (one.get("document") or {}).get("text"))
        if more.get("return_documents", True)
        else (one["index"], one["relevance_score"])
        for one in answer.results
    ]


@row
def litellm_cohere(given: Given) -> Hits:
    return _ordered(given, "cohere")


@row
def litellm_jina_ai(given: Given) -> Hits:
    return _ordered(given, "jina_ai")


@row
def litellm_hosted_vllm(given: Given) -> Hits:
    return _ordered(given, "hosted_vllm")


@row
def litellm_infinity(given: Given) -> Hits:
    return _ordered(given, "infinity", return_documents=False)


@row
def litellm_huggingface(given: Given) -> Hits:
    return _ordered(given, "huggingface")


@row
def litellm_voyage(given: Given) -> Hits:
    return _ordered(given, "voyage")


if __name__ == "__main__":
    main()

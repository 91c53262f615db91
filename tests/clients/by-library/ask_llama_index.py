"""llama-index's three postprocessors that call a server."""

from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference
from told import Given, Hits, main, row


def _ordered(asks, given: Given) -> Hits:
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in given.documents]
    found = asks.postprocess_nodes(nodes, query_str=given.query)
    return [(given.documents.index(one.node.get_content()), one.score) for one in found]


@row
def llama_index_cohere(given: Given) -> Hits:
    return _ordered(CohereRerank(base_url=given.url, api_key="key", model=given.model, top_n=given.top_n), given)


@row
def llama_index_jina(given: Given) -> Hits:
    asks = JinaRerank(base_url=f"{given.url}/v1", api_key="key", model=given.model, top_n=given.top_n)
    return _ordered(asks, given)


@row
def llama_index_jina_error(given: Given) -> str:
    try:
        _ordered(JinaRerank(base_url=f"{given.url}/v1", api_key="key", model="no-such-model"), given)
    except RuntimeError as error:
        return str(error)
    return "nothing was raised"


@row
def llama_index_tei(given: Given) -> Hits:
    return _ordered(TextEmbeddingInference(base_url=given.url, auth_token="Bearer key", top_n=given.top_n), given)


if __name__ == "__main__":
    main()

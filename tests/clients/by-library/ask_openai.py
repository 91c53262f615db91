"""openai, the version that the table names."""

import openai
from told import Given, main, row


@row
def openai_embeddings(given: Given) -> list[float]:
    client = openai.OpenAI(base_url=f"{given.url}/v1", api_key="key")
    return client.embeddings.create(model="all-MiniLM-L6-v2", input=[given.query]).data[0].embedding


@row
def openai_models(given: Given) -> list[str]:
    return [one.id for one in openai.OpenAI(base_url=f"{given.url}/v1", api_key="key").models.list()]


@row
def openai_chat_stream(given: Given) -> list[str]:
    client = openai.OpenAI(base_url=f"{given.url}/v1", api_key="key")
    chunks = client.chat.completions.create(
        model="kvasir/demo",
        messages=[{"role": "user", "content": given.query}],
        stream=True,
        stream_options={"include_usage": True},
    )
    pieces, tokens = [], 0
    for chunk in chunks:
        pieces += [choice.delta.content or "" for choice in chunk.choices]
        tokens = chunk.usage.total_tokens if chunk.usage else tokens
    return ["".join(pieces), str(tokens > 0)]


if __name__ == "__main__":
    main()

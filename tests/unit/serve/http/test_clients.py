"""Real clients against a real server, each as its users call it."""

import httpx
import numpy as np
import pytest

from octavo.serve.refusals import Overloaded

TEXTS = ["turn it off", "book a table"]
DOCUMENTS = ["book a table", "play some music", "turn it off"]


@pytest.fixture
def vectors(tiny_served):
    return np.array([one.vector for one in tiny_served["match"].predict(TEXTS)])


@pytest.fixture
def order(tiny_served):
    (ranking,) = tiny_served["order"].predict([(TEXTS[0], DOCUMENTS)])
    return [one.index for one in ranking.results]


def test_openai(url, vectors):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        made = client.embeddings.create(model="match", input=TEXTS)  # in base64, which is its default
        np.testing.assert_allclose([one.embedding for one in made.data], vectors, rtol=1e-5)
        made = client.embeddings.create(model="match", input=TEXTS[0], encoding_format="float", dimensions=32)
        np.testing.assert_allclose(made.data[0].embedding, vectors[0], rtol=1e-5)
        document = client.embeddings.create(model="match", input=TEXTS[0], extra_body={"input_type": "document"})
        assert not np.allclose(document.data[0].embedding, vectors[0])
        assert [model.id for model in client.models.list()] == ["intent", "match", "order", "slots"]
        with pytest.raises(openai.NotFoundError) as unknown:
            client.embeddings.create(model="none", input="a")
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
            client.embeddings.create(model="match", input=[1, 2])


def test_openai_waits_as_long_as_it_is_told(url, service, monkeypatch):
    openai = pytest.importorskip("openai")
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    service.error = Overloaded("full", 0.05)
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=1)
    with client, pytest.raises(openai.RateLimitError):
        client.embeddings.create(model="match", input="a")
    assert slept == [0.05]
    assert len(service.asked) == 2


def test_openai_with_a_key(serve):
    openai = pytest.importorskip("openai")
    with serve(api_keys=("secret",)) as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0) as client:
            assert client.embeddings.create(model="match", input="a").model == "match"
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="guess", max_retries=0)
        with client, pytest.raises(openai.AuthenticationError):
            client.embeddings.create(model="match", input="a")


def test_langchain(url, vectors):
    langchain = pytest.importorskip("langchain_openai")
    with httpx.Client() as http_client:  # which it would not close
        embeddings = langchain.OpenAIEmbeddings(
            base_url=f"{url}/v1",
            api_key="none",
            model="match",
            check_embedding_ctx_length=False,
            http_client=http_client,
        )
        np.testing.assert_allclose(embeddings.embed_documents(TEXTS), vectors, rtol=1e-5)
        np.testing.assert_allclose(embeddings.embed_query(TEXTS[0]), vectors[0], rtol=1e-5)


def test_cohere(url, order):
    cohere = pytest.importorskip("cohere")
    with httpx.Client() as http_client:  # which they would not close
        client = cohere.ClientV2(api_key="none", base_url=url, httpx_client=http_client)
        ranked = client.rerank(model="order", query=TEXTS[0], documents=DOCUMENTS, top_n=2)
        assert [one.index for one in ranked.results] == order[:2]
        with pytest.raises(cohere.NotFoundError, match="intent, match, order, slots"):
            client.rerank(model="none", query="a", documents=["b"])
        older = cohere.Client(api_key="none", base_url=url, httpx_client=http_client)
        ranked = older.rerank(model="order", query=TEXTS[0], documents=DOCUMENTS, return_documents=True)
        assert [one.document.text for one in ranked.results] == [DOCUMENTS[index] for index in order]


def test_llama_index(url, order):
    tei_rerank = pytest.importorskip("llama_index.postprocessor.tei_rerank")
    from llama_index.core.schema import NodeWithScore, TextNode

    reranker = tei_rerank.TextEmbeddingInference(base_url=url, top_n=3)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]
    found = reranker.postprocess_nodes(nodes, query_str=TEXTS[0])
    assert [one.node.text for one in found] == [DOCUMENTS[index] for index in order]


def test_triton_over_http(url, tiny_served):
    http = pytest.importorskip("tritonclient.http")
    from tritonclient.utils import InferenceServerException

    with http.InferenceServerClient(url.removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("intent")
        assert client.is_model_ready("intent", "2")
        assert not client.is_model_ready("none")
        assert client.get_server_metadata()["name"] == "octavo"
        assert client.get_model_metadata("intent")["inputs"][0]["name"] == "text"
        expected = [one.label for one in tiny_served["intent"].predict(TEXTS)]
        for binary in (True, False):
            text = http.InferInput("text", [2], "BYTES")
            text.set_data_from_numpy(np.array(TEXTS, np.object_), binary_data=binary)
            wanted = [http.InferRequestedOutput(name, binary_data=binary) for name in ("label", "logits")]
            for outputs in (None, wanted):
                result = client.infer("intent", [text], outputs=outputs, request_id="7")
                assert result.as_numpy("label").astype(str).tolist() == expected
                assert result.as_numpy("logits").shape == (2, 5)
                assert result.get_response()["model_version"] == "3"
        with pytest.raises(InferenceServerException, match="Version 9 of 'intent' is not loaded"):
            client.infer("intent", [text], model_version="9")


def test_triton_ranks(url, tiny_served):
    http = pytest.importorskip("tritonclient.http")
    with http.InferenceServerClient(url.removeprefix("http://")) as client:
        query, documents = http.InferInput("query", [1], "BYTES"), http.InferInput("documents", [3, 1], "BYTES")
        query.set_data_from_numpy(np.array(TEXTS[:1], np.object_))
        documents.set_data_from_numpy(np.array([[text] for text in DOCUMENTS], np.object_))
        scores = client.infer("order", [query, documents]).as_numpy("relevance_score")
    (ranking,) = tiny_served["order"].predict([(TEXTS[0], DOCUMENTS)])
    assert scores[[one.index for one in ranking.results]].tolist() == pytest.approx(
        [one.relevance_score for one in ranking.results]
    )

import asyncio

import pytest

from octavo.errors import InputError, OctavoWarning
from octavo.search.direct import DirectService
from octavo.serve.refusals import BadRequest, UnknownModel
from octavo.serve.service import Request


@pytest.fixture
def service(publish_stack):
    with DirectService.from_store(publish_stack(), threads=1) as made:
        yield made


def ask(service, model, items, **options):
    return asyncio.run(service.ask(Request(model, items, **options)))


def test_every_model_of_the_store_serves_its_current_version(service):
    assert service.ready
    infos = service.models()
    assert [(info.model, info.task.name, info.version, info.precision) for info in infos] == [
        (name, name, "2", "int8") for name in ("classify", "embed", "rank", "tag")
    ]
    assert service.model("embed").sha256 == infos[1].sha256
    assert service.versions("embed") == ["2"]


def test_answers_are_the_releases_own(service, publish_stack, tmp_path):
    from octavo.store.model import load

    reply = ask(service, "classify", ["book a table"])
    with load(tmp_path / "store" / "classify", threads=1) as model:
        assert reply.answers == model.predict(["book a table"])
    assert (reply.model, reply.version) == ("classify", "2")
    assert reply.tokens > 4
    plain = ask(service, "embed", ["book", "book"], decode=False)
    assert plain.answers == ()
    assert plain.outputs.values.shape == (2, 32)


def test_a_named_version_serves(publish_stack):
    with DirectService.from_store(publish_stack(["embed"]), {"embed": "1"}, threads=1) as service:
        assert service.model("embed").precision == "fp32"
        with pytest.raises(UnknownModel, match=r"Version 2 of embed is not loaded. There are: 1"):
            service.model("embed", "2")


def test_what_is_not_there_is_refused_by_name(service, publish_stack, tmp_path):
    with pytest.raises(UnknownModel, match=r"No model 'nothing' is served. There are: classify, embed"):
        ask(service, "nothing", ["a"])
    with pytest.raises(InputError, match="there is no model 'other'"):
        DirectService.from_store(tmp_path / "store", {"other": "1"})


def test_an_item_that_the_model_cannot_read_is_the_requests_fault(service):
    with pytest.raises(BadRequest, match="no text"):
        ask(service, "embed", [17])


def test_a_damaged_release_is_left_out_with_a_warning(publish_stack):
    store = publish_stack(["embed", "rank"])
    (store / "rank" / "2" / "model.onnx").write_bytes(b"damaged")
    with pytest.warns(OctavoWarning, match="rank is left out"), DirectService.from_store(store, threads=1) as service:
        assert [info.model for info in service.models()] == ["embed"]

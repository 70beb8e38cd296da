import pytest

from octavo.store.publish import new_version

FILES = {
    "certificate.json": b'{"verdict": "pass", "rung": "kd-qat"}',
    "config.json": b'{"id2label": {"0": "a", "1": "b"}}',
    "tokenizer.json": b'{"model": {}}' * 20,
    "model.onnx": bytes(range(256)) * 4,
    "variants/model_u8.onnx": bytes(range(255, -1, -1)) * 3,
    "golden.json": b"[]",
    "README.md": "# Möbel\n".encode(),
}
VARIANTS = {"canonical": "model.onnx", "u8": "variants/model_u8.onnx"}


def _publish(store, model="intent", *, files=FILES, make_current=True):
    with new_version(store, model) as draft:
        for name, content in files.items():
            draft.write(name, content)
        return draft.commit(task="classify", rung="kd-qat", variants=VARIANTS, make_current=make_current)


@pytest.fixture
def publish():
    """Publish the sample files into a store and return the version's folder."""
    return _publish


@pytest.fixture
def files():
    return FILES


@pytest.fixture
def variants():
    return VARIANTS


@pytest.fixture
def release(tmp_path):
    """A published release: its folder, `<store>/intent/1`."""
    return _publish(tmp_path / "store")

from engine_contract import EngineContract

from octavo.engines.torch import TorchEngine


class TestTorch(EngineContract):
    backend = "torch"

    def build(self, subject):
        return TorchEngine(subject.model, subject.graph.positions, subject.name)

"""What mmdet's detector is given, without mmdet: OpenCV's order of channels."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vhs.geneval.mmdet_backend import MMDetDetector


def test_mmdet_gets_blue_first(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def inference_detector(model, array):
        given.append(array)
        return SimpleNamespace(pred_instances="found")

    apis = ModuleType("mmdet.apis")
    apis.inference_detector = inference_detector
    monkeypatch.setitem(sys.modules, "mmdet", ModuleType("mmdet"))
    monkeypatch.setitem(sys.modules, "mmdet.apis", apis)
    model = SimpleNamespace(panoptic_head=SimpleNamespace(num_things_classes=1))
    assert MMDetDetector(model, ["star"]).infer(Image.new("RGB", (2, 3), (10, 20, 30))) == "found"
    assert given[0].shape == (3, 2, 3) and np.all(given[0] == [30, 20, 10]) and given[0].flags["C_CONTIGUOUS"]

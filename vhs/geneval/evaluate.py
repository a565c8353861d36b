"""GenEval on pictures in memory: detector, colour classifier and rules as one judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from vhs.geneval import rules
from vhs.geneval.colors import ColorClassifier, ColorQuery
from vhs.geneval.detector import Detector, Mask2Former, load_model
from vhs.geneval.metadata import check_metadata
from vhs.geneval.rules import Thresholds
from vhs.pictures import to_rgb
from vhs.records import Detection, Verdict

if TYPE_CHECKING:
    from vhs.geneval.spec import GenEvalSpec

Metadata = Mapping[str, Any]


class GenEval:
    """Judges pictures against GenEval's metadata, a batch at a time."""

    def __init__(
        self,
        detector: Detector,
        colors: ColorClassifier,
        names: Sequence[str] | None = None,
        thresholds: Thresholds = Thresholds(),
    ):
        """`names`, when given, must be the detector's own, in its order."""
        assert names is None or tuple(names) == tuple(detector.names), "names and detector differ"
        self.detector = detector
        self.colors = colors
        self.names = tuple(detector.names)
        self.thresholds = thresholds

    def judge(self, image: Image.Image, metadata: Metadata) -> Verdict:
        """The verdict on one picture, with its objects' boxes, labels, scores, masks and the colours asked for."""
        return self.judge_batch([image], [metadata])[0]

    def judge_batch(self, images: Sequence[Image.Image], metadatas: Sequence[Metadata]) -> list[Verdict]:
        """One verdict per picture. Forward passes are shared: the detector's by size, CLIP's over all crops.

        Raises PromptError for metadata that cannot be judged with the detector's classes.
        """
        assert len(images) == len(metadatas), "one metadata record per picture"
        for metadata in metadatas:
            check_metadata(metadata, self.names)
        pictures = [to_rgb(image) for image in images]
        found = self.detector.detect(pictures, self.thresholds.lowest)
        return self.judge_detections(pictures, metadatas, found)

    def judge_detections(
        self, pictures: Sequence[Image.Image], metadatas: Sequence[Metadata], found: Sequence[Sequence[Detection]]
    ) -> list[Verdict]:
        """Verdicts from detections that are there already; `pictures` are RGB.

        The rules run twice: once to learn which objects' colours they ask for, which no colour's answer changes, and
        once with the answers.
        """
        queries = [
            query
            for picture, metadata, detections in zip(pictures, metadatas, found, strict=True)
            for query in self._color_queries(picture, metadata, detections)
        ]
        named = self.colors.classify(queries)
        answers = {(id(query.detection), query.label): color for query, color in zip(queries, named, strict=True)}
        return [
            self._rules(metadata, detections, lambda one, label: answers[id(one), label])
            for metadata, detections in zip(metadatas, found, strict=True)
        ]

    def _color_queries(
        self, picture: Image.Image, metadata: Metadata, detections: Sequence[Detection]
    ) -> list[ColorQuery]:
        queries: list[ColorQuery] = []

        def note(one: Detection, label: str) -> str:
            queries.append(ColorQuery(picture, one, label))
            return ""

        self._rules(metadata, detections, note)
        return queries

    def _rules(self, metadata: Metadata, detections: Sequence[Detection], color_of: rules.ColorOf) -> Verdict:
        return rules.judge(metadata, detections, color_of, thresholds=self.thresholds)


def load_detector(spec: GenEvalSpec) -> Detector:
    """The detector of a judge: transformers', or mmdet's where that is installed."""
    if spec.detector == "mmdet":
        from vhs.geneval.mmdet_backend import MMDetDetector

        configured = spec.mmdet_config.require() if spec.mmdet_config else None
        return MMDetDetector.load(spec.checkpoint.require(), configured, spec.names, spec.device)
    return Mask2Former(load_model(spec.checkpoint.require()), spec.names, spec.size, spec.device)

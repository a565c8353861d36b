"""Verifiers: they score candidates of one prompt from hidden states, latents or pictures.

Names are imported on first use, so that `import vhs.verifiers` costs neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Verifier": "base",
    "NoVerifier": "base",
    "RandomVerifier": "base",
    "VerifierConfig": "checkpoint",
    "read_verifier_config": "checkpoint",
    "load_verifier": "load",
    "resolve_llava": "load",
    "LlavaSpec": "load",
    "load_language_model": "language_model",
    "save_verifier": "save",
    "load_registry": "registry",
    "resolve_verifier": "spec",
    "VerifierSpec": "spec",
    "load_statistics": "hidden",
    "embed_inputs": "llava",
    "LlavaVerifier": "llava",
    "answer_logits": "llava",
    "build_connector": "connector",
    "build_inputs": "conversation",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__

"""Generators: what makes pictures. `resolve_generator` finds and checks the one that a configuration names."""

from __future__ import annotations

from vhs.generators.base import Generator, GeneratorInfo
from vhs.generators.settings import GeneratorSettings
from vhs.generators.spec import GeneratorSpec, resolve_generator

__all__ = ["Generator", "GeneratorInfo", "GeneratorSettings", "GeneratorSpec", "resolve_generator"]

"""What a key of a configuration is, and the groups of keys that several configurations have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import to_jsonable_python

from vhs.processes import TIMEOUT

Where = Literal["file", "folder", "hub"]


def _number(value: Any) -> Any:
    """YAML reads `1e-3` as text: take it for the number that it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Number = Annotated[float, BeforeValidator(_number)]
Timesteps = Annotated[tuple[int | float, ...], Field(strict=False, min_length=1)]
Size = Annotated[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], Field(strict=False)]


def key(
    default: Any = ...,
    *,
    path: Where | None = None,
    unit: str = "",
    results: bool = True,
    needed: str | None = None,
    **bounds: Any,
) -> Any:
    """A field of a configuration.

    Args:
        path: what the value names: a file, a folder, or `hub`, a folder or a repository of the Hugging Face Hub.
        unit: of a number, for the documentation.
        results: the results of a run depend on it; a run may be continued with another value where they do not.
        needed: what a value must be, said where it is not.
        bounds: pydantic's `ge`, `lt`, `min_length`, `pattern`, ...
    """
    extra = {"path": path, "unit": unit, "results": results, "needed": needed}
    return Field(default, json_schema_extra=extra, **bounds)


class Keys(BaseModel):
    """Unknown keys and wrong types are refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    @classmethod
    def completed(cls, record: Mapping[str, Any]) -> dict[str, Any]:
        """What a command has recorded of its work, its configuration under `config`: a key that an earlier version did
        not have was as its default is."""
        optional = {name: field for name, field in cls.model_fields.items() if not field.is_required()}
        defaults = {name: field.get_default(call_default_factory=True) for name, field in optional.items()}
        return {**record, "config": {**to_jsonable_python(defaults), **record.get("config", {})}}

    @classmethod
    def keys_where(cls, **properties: Any) -> tuple[str, ...]:
        """The keys whose properties (see `key`) have these values; `path=True` is any path."""
        return tuple(name for name, field in cls.model_fields.items() if _has(field.json_schema_extra, properties))


def _has(extra: Any, properties: Mapping[str, Any]) -> bool:
    extra = extra or {}
    return all(bool(extra.get(k)) if v is True and k == "path" else extra.get(k) == v for k, v in properties.items())


class TimeoutKey(Keys):
    """Several processes."""

    timeout: Number = key(TIMEOUT, gt=0, unit="minutes", results=False)
    """How long one of several processes may give no sign of life before it ends all of them (docs/processes.md)."""


class DeviceKey(Keys):
    """Device."""

    device: str = key("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", needed="auto, cpu, mps, cuda or cuda:<number>")
    """`auto` (CUDA where there is one, else the CPU), `cpu`, `cuda`, `cuda:<number>` or `mps`."""


class StatisticsKeys(Keys):
    """What hidden states are normalised by; where nothing is given they are read as they are."""

    normalization: str | None = key(None, path="folder")
    """Folder of the statistics of each block that is read, `block_<l>_mean_bf16.pt` and
    `block_<l>_variance_bf16.pt`. A verifier of anything else leaves it alone."""
    normalization_mean_path: str | None = key(None, path="file")
    """Mean of the hidden state instead: one tensor of shape (1,), (tokens,) or (1, width)."""
    normalization_variance_path: str | None = key(None, path="file")
    """Its variance, of the same shape; both or neither."""


def statistics_conflicts(config: StatisticsKeys) -> Iterable[tuple[str, str]]:
    """(key, what is wrong and what would be right) for statistics that are named twice, or by half."""
    mean, variance = config.normalization_mean_path, config.normalization_variance_path
    if (mean is None) != (variance is None):
        given, other = ("normalization_mean_path", "normalization_variance_path")[:: 1 if mean else -1]
        yield given, f"given without {other}; a hidden state is normalised by both or by neither"
    if config.normalization is not None and mean is not None:
        yield (
            "normalization",
            "names the folder of the two files that normalization_mean_path and ..._variance_path name",
        )

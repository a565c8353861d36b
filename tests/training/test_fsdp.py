"""FSDP on two CPU processes: the same curves and checkpoints as one process without it.

accelerate turns FSDP on for accelerators only, so the launched script turns it on itself; the wrapping, the gathering
of weights, the saving and the loading are then the real ones, over gloo instead of NCCL.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from vhs.training.trainer import train
from vhs.verifiers.load import load_verifier

ROOT = Path(__file__).parents[2]
LAUNCHED = """
import sys
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
plain = AcceleratorState.__init__
def with_fsdp(self, *args, fsdp_plugin=None, **settings):
    plain(self, *args, fsdp_plugin=fsdp_plugin, **settings)
    if self.distributed_type != DistributedType.FSDP or "fsdp_plugin" not in vars(self):
        fsdp_plugin.set_mixed_precision(self._mixed_precision if self._mixed_precision != "no" else "fp32")
        self.fsdp_plugin, self.distributed_type = fsdp_plugin, DistributedType.FSDP
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
AcceleratorState.__init__ = with_fsdp

from torch.distributed.tensor import DTensor
from vhs.training.config import TrainConfig
from vhs.training.trainer import Trainer
for path in sys.argv[1:]:
    config = TrainConfig.model_validate_json(open(path).read())
    AcceleratorState._reset_state()
    trainer = Trainer(config)
    assert all(isinstance(p, DTensor) for p in trainer.model.parameters()) and trainer.accelerator.num_processes == 2
    go = trainer.accumulate
    def stop(step):
        if step == 3:
            raise KeyboardInterrupt
        return go(step)
    trainer.accumulate = stop
    try:
        trainer.run()
    except KeyboardInterrupt:
        again = Trainer(config.model_copy(update={"cont": True}))
        again.run()
    else:
        raise AssertionError("it was not stopped")
"""
CASES = {
    "align": {"stage": "align", "captions": None},
    "finetune": {},
    "bfloat16": {"precision": "bfloat16"},
    "lora": {"lora_rank": 2},
    "checkpointing": {"gradient_checkpointing": True},
}
SETTINGS = {"micro_batch": 4, "max_steps": 4, "save_every": 2, "eval_every": 2}


def environment() -> dict[str, str]:
    """What `accelerate launch` makes of configs/accelerate/fsdp.yaml."""
    shipped = yaml.safe_load((ROOT / "configs" / "accelerate" / "fsdp.yaml").read_text())
    assert shipped["distributed_type"] == "FSDP"
    keys = {key.upper(): str(value) for key, value in shipped["fsdp_config"].items()}
    keys["FSDP_TRANSFORMER_CLS_TO_WRAP"] = keys.pop("FSDP_TRANSFORMER_LAYER_CLS_TO_WRAP")
    fixed = {
        "PYTHONPATH": str(ROOT),
        "ACCELERATE_USE_CPU": "true",
        "ACCELERATE_USE_FSDP": "true",
        "OMP_NUM_THREADS": "1",
    }
    return os.environ | keys | fixed


@pytest.mark.slow
def test_fsdp_changes_nothing_and_goes_on_where_it_was_stopped(config, tmp_path, write_set):
    odd = write_set(tmp_path / "odd", prompts=15, candidates=3)  # evaluates 9: 2 passes of one process, 1 of the other
    cases = CASES | {"uneven": {"data": [str(odd)]}}
    paths = []
    for name, changes in cases.items():
        AcceleratorState._reset_state()  # the precision is fixed once a process
        train(config(name=f"{name}_alone", **SETTINGS, **changes))
        (tmp_path / f"{name}.json").write_text(config(name=name, **SETTINGS, **changes).model_dump_json())
        paths.append(f"{name}.json")
    AcceleratorState._reset_state()
    (tmp_path / "launched.py").write_text(LAUNCHED)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "launched.py"]
    subprocess.run([*launch, *paths], cwd=tmp_path, check=True, timeout=900, env=environment())
    curves = {}
    for name in cases:
        exact = name != "bfloat16"  # FSDP casts the weights, autocast the single operations
        alone, sharded = config(name=f"{name}_alone").folder, config(name=name).folder
        expected, curves[name] = (list(map(json.loads, (f / "log.jsonl").open())) for f in (alone, sharded))
        assert len(expected) == 6
        for ours, theirs in zip(expected, curves[name], strict=True):
            for counted in () if exact else ("eval_accuracy", "eval_auc"):  # a score near a half tips them
                ours.pop(counted, None), theirs.pop(counted, None)
            assert ours == pytest.approx(theirs, rel=1e-3 if exact else 0.1), name
        load_verifier(sharded / "checkpoint")
        whole, parts = (load_file(folder / "checkpoint" / "model.safetensors") for folder in (alone, sharded))
        assert whole.keys() == parts.keys()
        assert not exact or max((whole[key] - parts[key]).abs().max().item() for key in whole) < 1e-3, name
    assert curves["bfloat16"][0]["loss"] != pytest.approx(curves["finetune"][0]["loss"], rel=1e-4)

"""Registry of configs/nvila_visa.yaml: NVILA-Lite-2B-Verifier itself, and the scores that it wrote.

The first entry runs the Python code of the model's repository, in the environment of requirements-nvila.txt.
"""

LATENT_VERIFIER = {
    "nvila": {
        "class": "vhs.verifiers.nvila:Nvila",
        "kwargs": {"path": "Efficient-Large-Model/NVILA-Lite-2B-Verifier", "trust_remote_code": True},
    },
    "nvila_scores": {"kind": "scores", "scores": "outputs/visa_candidates/scores/nvila.jsonl"},
}

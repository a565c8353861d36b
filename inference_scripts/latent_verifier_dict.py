"""The verifiers that a run can name in `latent_verifier_name`. Adding a verifier is adding an entry.

latent_verifier_path  a folder, or a repository of the Hugging Face Hub
vision_tower          hidden_<block>, latent, or a CLIP model id or folder
resize_vocabulary     the release's rule for its two published checkpoints; default false
kind                  llava (default), random (a baseline), none (the first candidate wins)
"""

LATENT_VERIFIER = {
    "tiny_hidden_7": {
        "latent_verifier_path": "ckpts/tiny/verifier_hidden_7",
        "vision_tower": "hidden_7",
    },
    "sana_hidden-7-Qwen2.5-0.5B-mlp-train-val-best-CEfocal-loss-alpha-0.37-gamma-0.0": {
        "latent_verifier_path": "aimagelab/vhs-hidden-verifier",
        "vision_tower": "hidden_7",
        "resize_vocabulary": True,
    },
    "qwen2.5-0.5B_clip_original-data_XE": {
        "latent_verifier_path": "aimagelab/vhs-mllm-clip-verifier",
        "vision_tower": "openai/clip-vit-large-patch14-336",
        "resize_vocabulary": True,
    },
    "random": {"kind": "random"},
    "none": {"kind": "none"},
}

JUDGE = {
    "geneval": {"kind": "geneval"},
    "geneval2": {"kind": "soft_tifa", "model": "Qwen/Qwen3-VL-8B-Instruct"},
    "vqa_score": {"kind": "vqa_score", "model": "Qwen/Qwen3-VL-8B-Instruct"},
    "geometry": {"kind": "geometry"},
}
"""The judges that a run can name in `judge`: docs/judges.md."""

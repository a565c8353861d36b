"""The verifiers that every run can name in `latent_verifier_name`, the project's own and the release's, and the judges
that it can name in `judge`.

A user's own stand in another file of this form: in a checkout `inference_scripts/latent_verifier_dict.py`, which says
what an entry holds.
"""

LATENT_VERIFIER = {
    "tiny_hidden_7": {
        "latent_verifier_path": "ckpts/tiny/verifier_hidden_7",
        "vision_tower": "hidden_7",
    },
    "tiny_ae": {"latent_verifier_path": "ckpts/tiny/verifier_latent", "vision_tower": "latent"},
    "tiny_clip": {"latent_verifier_path": "ckpts/tiny/verifier_clip", "vision_tower": "ckpts/tiny/clip_vision"},
    "tiny_pixart_hidden_5": {
        "latent_verifier_path": "ckpts/tiny/pixart_verifier_hidden_5",
        "vision_tower": "hidden_5",
    },
    "tiny_pixart_ae": {"latent_verifier_path": "ckpts/tiny/pixart_verifier_latent", "vision_tower": "latent"},
    "tiny_pixart_clip": {
        "latent_verifier_path": "ckpts/tiny/pixart_verifier_clip",
        "vision_tower": "ckpts/tiny/clip_vision",
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
    "tiny_clip_score": {"kind": "clip_score", "latent_verifier_path": "ckpts/tiny/color_clip"},
    "clip_score": {"kind": "clip_score"},
    "pick_score": {"kind": "pick_score"},
    "hps": {"kind": "hps"},
    "qwen3_vl": {"kind": "vlm", "latent_verifier_path": "Qwen/Qwen3-VL-8B-Instruct", "score": "p_yes"},
    "random": {"kind": "random"},
    "none": {"kind": "none"},
}

JUDGE = {
    "geneval": {"kind": "geneval"},
    "geneval2": {"kind": "soft_tifa", "model": "Qwen/Qwen3-VL-8B-Instruct"},
    "vqa_score": {"kind": "vqa_score", "model": "Qwen/Qwen3-VL-8B-Instruct"},
    "geometry": {"kind": "geometry"},
}

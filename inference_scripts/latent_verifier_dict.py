"""The verifiers and judges that a run from this checkout can name in `latent_verifier_name` and `judge`. Adding one is
adding an entry:

    "my_verifier": {"latent_verifier_path": "ckpts/my_verifier", "vision_tower": "hidden_7"},

latent_verifier_path  a folder, or a repository of the Hugging Face Hub
vision_tower          hidden_<block>, latent, or a CLIP model id or folder
resize_vocabulary     the release's rule for its two published checkpoints; default false
kind                  llava (default), random (a baseline), none (the first candidate wins), and the other kinds of
                      docs/verifiers.md: vlm, clip_score, pick_score, hps, aesthetic, scores
class                 package.module:Class, a class of your own, with its arguments in kwargs

Judges: docs/judges.md.
"""

from vhs.verifiers.latent_verifier_dict import JUDGE as SHIPPED_JUDGES
from vhs.verifiers.latent_verifier_dict import LATENT_VERIFIER as SHIPPED

LATENT_VERIFIER = {
    **SHIPPED,
}

JUDGE = {
    **SHIPPED_JUDGES,
}

"""The detector files that GenEval is defined with, by the first eight digits of their SHA-256."""

PUBLISHED = {
    "c9d0c4f2": "mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco_20220504_001756-c9d0c4f2.pth",
    "743b7d99": "mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth",
}
"""The same weights under mmdet 3's names and under mmdet 2's."""

"""Rendered people: labelled clips of talking heads, a miniature of FaceForensics++, and a proving ground."""

from dfmodels.synthetic.benchmark import write_benchmark
from dfmodels.synthetic.miniature import render_group, write_miniature
from dfmodels.synthetic.talking_heads import DEFAULT_CONFIG, TalkingHeadConfig, TalkingHeads, render_clip

__all__ = [
    "DEFAULT_CONFIG",
    "TalkingHeadConfig",
    "TalkingHeads",
    "render_clip",
    "render_group",
    "write_benchmark",
    "write_miniature",
]

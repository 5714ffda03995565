"""Data sets: generated clips with labels."""

from dfmodels.data.talking_heads import DEFAULT_CONFIG, TalkingHeadConfig, TalkingHeads, render_clip

__all__ = ["DEFAULT_CONFIG", "TalkingHeadConfig", "TalkingHeads", "render_clip"]

"""Data sets: generated clips with labels, groups of a real face and its forgeries."""

from dfmodels.data.groups import (
    ForgeryGroups,
    Video,
    VideoFrames,
    collate_groups,
    deepfakebench_videos,
    folder_videos,
    make_groups,
    read_pairs,
)
from dfmodels.data.miniature import write_miniature
from dfmodels.data.talking_heads import DEFAULT_CONFIG, TalkingHeadConfig, TalkingHeads, render_clip

__all__ = [
    "DEFAULT_CONFIG",
    "ForgeryGroups",
    "TalkingHeadConfig",
    "TalkingHeads",
    "Video",
    "VideoFrames",
    "collate_groups",
    "deepfakebench_videos",
    "folder_videos",
    "make_groups",
    "read_pairs",
    "render_clip",
    "write_miniature",
]

"""Data sets: groups of a real face and its forgeries, and their frames one by one."""

from dfmodels._moved import moved
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

__all__ = [
    "ForgeryGroups",
    "Video",
    "VideoFrames",
    "collate_groups",
    "deepfakebench_videos",
    "folder_videos",
    "make_groups",
    "read_pairs",
]

__getattr__ = moved(
    __name__,
    "dfmodels.synthetic",
    "DEFAULT_CONFIG",
    "TalkingHeadConfig",
    "TalkingHeads",
    "render_clip",
    "write_miniature",
)

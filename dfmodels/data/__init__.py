"""Data sets: indexes of videos, and groups of a real one and its forgeries."""

from dfmodels._moved import moved
from dfmodels.data.cache import CropCache, prepare_video
from dfmodels.data.clips import ClipSamples
from dfmodels.data.crops import Crops, CropSource, open_crops
from dfmodels.data.groups import ForgeryGroups, make_groups
from dfmodels.data.index import (
    Video,
    check_classes,
    index_hash,
    limit,
    load_videos,
    read_index,
    warn_of_shared_identities,
    where,
    write_index,
)
from dfmodels.data.layouts import deepfakebench_videos, folder_videos, read_pairs
from dfmodels.data.plan import FramePlan
from dfmodels.data.prepare import CropJob, prepare_crops
from dfmodels.data.samples import Sample, Samples, one_thread

__all__ = [
    "ClipSamples",
    "CropCache",
    "CropJob",
    "CropSource",
    "Crops",
    "ForgeryGroups",
    "FramePlan",
    "Sample",
    "Samples",
    "Video",
    "check_classes",
    "deepfakebench_videos",
    "folder_videos",
    "index_hash",
    "limit",
    "load_videos",
    "make_groups",
    "one_thread",
    "open_crops",
    "prepare_crops",
    "prepare_video",
    "read_index",
    "read_pairs",
    "warn_of_shared_identities",
    "where",
    "write_index",
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

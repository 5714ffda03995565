"""The earlier place of `dfmodels.scoring`."""

from dfmodels._moved import moved

__getattr__ = moved(__name__, "dfmodels.scoring", "ClipScore", "VideoScore", "score_video", "video_score")

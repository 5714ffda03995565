"""From videos to scores: one video, many, their pictures, and the forms in which they are written."""

from dfmodels.scoring.batch import score_videos
from dfmodels.scoring.result import ClipScore, VideoScore
from dfmodels.scoring.video import score_video, video_score

__all__ = ["ClipScore", "VideoScore", "score_video", "score_videos", "video_score"]

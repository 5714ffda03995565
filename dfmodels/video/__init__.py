"""Clips of face crops out of videos: decoding, face boxes, crops."""

from dfmodels.video.alignment import align_face
from dfmodels.video.clips import Clip, NoFaceError, clip_frames, folder_clip_frames, read_clips
from dfmodels.video.decode import Frame, VideoError, VideoInfo, count_frames, iter_frames, read_frames, video_info
from dfmodels.video.faces import BoxesFile, CenterFace, FaceDetector, Haar, WholeFrame, YuNet, crop_box, face_detector
from dfmodels.video.sampling import candidate_frames, eval_frames, even_frames, train_frames

__all__ = [
    "BoxesFile",
    "CenterFace",
    "Clip",
    "FaceDetector",
    "Frame",
    "Haar",
    "NoFaceError",
    "VideoError",
    "VideoInfo",
    "WholeFrame",
    "YuNet",
    "align_face",
    "candidate_frames",
    "clip_frames",
    "count_frames",
    "crop_box",
    "eval_frames",
    "even_frames",
    "face_detector",
    "folder_clip_frames",
    "iter_frames",
    "read_clips",
    "read_frames",
    "train_frames",
    "video_info",
]

"""Clips of face crops out of videos: decoding, face boxes, crops."""

from dfmodels.video.alignment import align_face
from dfmodels.video.clips import Clip, LeftOut, NoFaceError, clip_frames, folder_clip_frames, read_clips, read_people
from dfmodels.video.decode import Frame, VideoError, VideoInfo, count_frames, iter_frames, read_frames, video_info
from dfmodels.video.faces import BoxesFile, CenterFace, FaceDetector, Haar, WholeFrame, YuNet, crop_box, face_detector
from dfmodels.video.people import Person, Survey, choose, survey_people
from dfmodels.video.sampling import candidate_frames, eval_frames, even_frames, train_frames
from dfmodels.video.stillness import is_still

__all__ = [
    "BoxesFile",
    "CenterFace",
    "Clip",
    "FaceDetector",
    "Frame",
    "Haar",
    "LeftOut",
    "NoFaceError",
    "Person",
    "Survey",
    "VideoError",
    "VideoInfo",
    "WholeFrame",
    "YuNet",
    "align_face",
    "candidate_frames",
    "choose",
    "clip_frames",
    "count_frames",
    "crop_box",
    "eval_frames",
    "even_frames",
    "face_detector",
    "folder_clip_frames",
    "is_still",
    "iter_frames",
    "read_clips",
    "read_frames",
    "read_people",
    "survey_people",
    "train_frames",
    "video_info",
]

"""A validation split by identity, for data sets that have none."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from dfmodels.data.index import Video
from dfmodels.video.images import natural_key

SHARE = 0.1  # of the identities of the training part
_FEWEST = 10  # identities of a group that may be cut
Identity = tuple[str, str]


def split_validation(videos: Sequence[Video]) -> tuple[list[Video], list[Video], list[str]]:
    """Give data sets that have a training and no validation part one of it, chosen by a hash of the identity.

    Identities that a forgery links, its target and its source, stay on one side with all their videos, and so does a
    group of identities that hang together: its side follows from the hash of its first name, and changes with no other
    row. Where one group holds most of the videos (in Celeb-DF everybody is swapped with many), each identity of it is
    drawn by itself, and forgeries of people on both sides are left out. Where a part would lack a class, the groups of
    the next higher hash follow as long as training keeps both.

    Returns:
        All videos but those left out, in their order; those left out; what there is to say.
    """
    moved: set[str] = set()
    cut: list[Video] = []
    notes = []
    datasets: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        datasets[video.dataset].append(video)
    for dataset, rows in datasets.items():
        train = [video for video in rows if video.split == "train"]
        if not train or any(video.split == "val" for video in rows):
            continue
        chosen, between, count = _choose(train)
        moved |= chosen
        cut += between
        notes.append(
            f"{dataset} has no validation split: "
            + (
                f"{len(chosen)} videos of {count} identities of training make it, drawn by a hash of their names"
                if chosen
                else "its identities are too few, or all linked, to make one of both classes, and all of it stays train"
            )
        )
    away = {video.key for video in cut}
    kept = [replace(v, split="val") if v.key in moved else v for v in videos if v.key not in away]
    return kept, cut, notes


def _choose(train: Sequence[Video]) -> tuple[set[str], list[Video], int]:
    """Keys of the validation part, videos between both parts, and the number of identities of the former."""
    groups = [(_hash(min(map(_first, group), key=natural_key)), group) for group in _groups(train)]
    draw, largest = max(groups, key=lambda group: len(group[1]))
    names = frozenset().union(*(video.identities for video in largest))
    between: list[Video] = []
    if len(largest) > len(train) / 2 and len(names) >= _FEWEST:
        drawn = {identity for identity in names if _hash(identity[1]) < SHARE}
        inside = [video for video in largest if video.identities <= drawn]
        outside = [video for video in largest if video.identities.isdisjoint(drawn)]
        between = [video for video in largest if 0 < len(video.identities & drawn) < len(video.identities)]
        groups.remove((draw, largest))
        groups += [(place, part) for place, part in ((0.0, inside), (1.0, outside)) if part]
    left = Counter(video.label for _, group in groups for video in group)
    wanted, held = set(left), set[int]()
    chosen: list[Video] = []
    for draw, group in sorted(groups, key=lambda group: (group[0], group[1][0].key)):
        labels = Counter(video.label for video in group)
        lacking = draw < 1 and set(labels) & (wanted - held)
        if (draw < SHARE or lacking) and all(left[label] > count for label, count in labels.items()):
            left -= labels
            held |= set(labels)
            chosen += group
    people = {name for video in chosen for name in video.identities or [("", video.key)]}
    return {video.key for video in chosen}, between, len(people)


def _groups(videos: Sequence[Video]) -> list[list[Video]]:
    """Videos that hang together by their identities; one of which none is known stands alone."""
    parent: dict[Identity, Identity] = {}

    def root(name: Identity) -> Identity:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    for video in videos:
        first, *others = map(root, video.identities or [("", video.key)])
        for other in others:
            parent[root(other)] = first
    groups: dict[Identity, list[Video]] = defaultdict(list)
    for video in videos:
        groups[root(min(video.identities or [("", video.key)]))].append(video)
    return list(groups.values())


def _first(video: Video) -> str:
    """The name that stands for a video: of its identities the first one, else its own."""
    return min((name for _, name in video.identities), key=natural_key, default=video.id)


def _hash(name: str) -> float:
    """A number in [0, 1) that a name decides."""
    return int(hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8], 16) / 2**32

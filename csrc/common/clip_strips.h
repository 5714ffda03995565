// The strips of a clip tensor, for host functions.
#pragma once

#include "common/strip.h"
#include "common/tensor.h"

namespace dfops {

inline Strips clip_strips(const std::vector<int64_t>& sizes, ClipLayout layout, int64_t axis) {
  return strips_of(sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], layout == ClipLayout::kChannelsLast, axis);
}

inline std::vector<int64_t> with_length(std::vector<int64_t> sizes, int64_t axis, int64_t length) {
  sizes[axis] = length;
  return sizes;
}

inline void check_clip_axis(const Tensor& clip, int64_t axis) {
  STD_TORCH_CHECK(clip.dim() == 5, "clips are (B, T, C, H, W), got ", clip.dim(), " axes");
  STD_TORCH_CHECK(axis == 1 || axis == 3 || axis == 4, "axis must be 1, 3 or 4, got ", axis);
}

}  // namespace dfops

// The strips of a clip tensor, for host functions.
#pragma once

#include "common/strip.h"
#include "common/tensor.h"

namespace dfops {

inline Strips clip_strips(const std::vector<int64_t>& sizes, ClipLayout layout, int64_t axis) {
  return strips_of(sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], layout == ClipLayout::kChannelsLast, axis);
}

inline void check_clip_axis(const std::string& name, const Tensor& clip, int64_t axis) {
  check_clip(name, clip);
  STD_TORCH_CHECK(axis == 1 || axis == 3 || axis == 4, "axis must be 1, 3 or 4, got ", axis);
}

}  // namespace dfops

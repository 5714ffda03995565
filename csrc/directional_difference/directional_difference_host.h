// What both host functions do before their loops: checks that keep reads inside the tensors.
#pragma once

#include "common/clip_strips.h"
#include "directional_difference/directional_difference.h"

namespace dfops::directional {

inline void check_arguments(const Tensor& x, const Tensor& weight, int64_t axis) {
  check_clip_axis(x, axis);
  STD_TORCH_CHECK(axis != 1, "axis must be 3 or 4, got 1");
  STD_TORCH_CHECK(weight.dim() == 2 && weight.size(0) == x.size(2) && weight.size(1) % 2 == 1 &&
                      weight.scalar_type() == x.scalar_type(),
                  "weight must be (C, M) in the dtype of x, M odd");
}

inline void check_gradient(const Tensor& grad, const Tensor& x) {
  STD_TORCH_CHECK(sizes_of(grad) == sizes_of(x) && grad.scalar_type() == x.scalar_type(),
                  "the gradient must have the shape and dtype of x");
}

}  // namespace dfops::directional

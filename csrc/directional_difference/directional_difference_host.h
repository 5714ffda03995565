// What both host functions do before their loops: checks that keep reads inside the tensors, and allocation.
#pragma once

#include <tuple>

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

// Empty in place of a gradient that is not needed.
inline std::tuple<Tensor, Tensor> new_gradients(const Tensor& x, const Tensor& weight, ClipLayout layout, bool need_x,
                                                bool need_weight) {
  return {need_x ? empty_clip(x, sizes_of(x), layout, x.scalar_type()) : torch::stable::new_empty(x, {0}),
          torch::stable::new_empty(weight, need_weight ? sizes_of(weight) : std::vector<int64_t>{0})};
}

}  // namespace dfops::directional

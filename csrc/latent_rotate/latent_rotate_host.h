// What both host functions do before their loops: checks that keep reads inside the tensors, and allocation.
#pragma once

#include <tuple>

#include "common/tensor.h"
#include "latent_rotate/latent_rotate.h"

namespace dfops::rotate {

inline void check_arguments(const Tensor& x, const Tensor& angle, int64_t mode, int64_t padding) {
  STD_TORCH_CHECK(x.dim() == 5, "maps come as (B, T, C, H, W), got ", x.dim(), " axes");
  STD_TORCH_CHECK(angle.numel() == x.size(0) * x.size(1), "angle must have one value a map, got ", angle.numel());
  STD_TORCH_CHECK(mode == 0 || mode == 1, "mode must be 0 or 1, got ", mode);
  STD_TORCH_CHECK(padding >= 0 && padding <= 2, "padding must be 0, 1 or 2, got ", padding);
}

inline void check_input(const Tensor& grad, const Tensor& x) {
  STD_TORCH_CHECK(sizes_of(grad) == sizes_of(x) && grad.scalar_type() == x.scalar_type(),
                  "the gradient must have the shape and dtype of x");
}

inline Maps maps_of(const Tensor& x, ClipLayout layout) {
  return {x.size(0) * x.size(1), x.size(2), x.size(3), x.size(4), layout == ClipLayout::kChannelsLast};
}

// One angle a map in the type the kernels compute in.
inline Tensor angles(const Tensor& angle, const Tensor& x) {
  return torch::stable::contiguous(*in_accumulate_type_of(angle, x));
}

// Empty in place of a gradient that is not needed.
inline std::tuple<Tensor, Tensor> new_gradients(const Tensor& grad, const std::optional<Tensor>& x, ClipLayout layout,
                                                bool need_x) {
  const int64_t angles = x ? grad.size(0) * grad.size(1) : 0;
  return {need_x ? empty_clip(grad, sizes_of(grad), layout, grad.scalar_type()) : torch::stable::new_empty(grad, {0}),
          torch::stable::new_empty(grad, {angles}, accumulate_type(grad.scalar_type()))};
}

}  // namespace dfops::rotate

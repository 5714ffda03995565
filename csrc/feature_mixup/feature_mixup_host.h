// What both host functions do before their loops: checks that keep reads inside the tensors, and allocation.
#pragma once

#include <tuple>

#include "common/tensor.h"

namespace dfops::mixup {

inline void check_arguments(const Tensor& x, const Tensor& index, const Tensor& lam) {
  STD_TORCH_CHECK(x.dim() >= 1, "x must have a first axis");
  STD_TORCH_CHECK(index.dim() == 1 && index.size(0) == x.size(0) && index.scalar_type() == ScalarType::Long,
                  "index must be (N,) int64");
  STD_TORCH_CHECK(lam.dim() == 1 && lam.size(0) == x.size(0), "lam must be (N,)");
}

inline int64_t row_size(const Tensor& x) {
  int64_t size = 1;
  for (int64_t d = 1; d < x.dim(); ++d) size *= x.size(d);
  return size;
}

// Rows one after the other; within a row the order of memory is that of x where it allows that.
inline Tensor empty_rows(const Tensor& x) {
  Tensor result = torch::stable::empty_like(x);
  return x.size(0) > 1 && result.stride(0) != row_size(x) ? torch::stable::new_empty(x, sizes_of(x)) : result;
}

// Empty in place of a gradient that is not needed.
inline std::tuple<Tensor, Tensor> new_gradients(const Tensor& grad, const std::optional<Tensor>& x, bool need_x) {
  if (x)
    STD_TORCH_CHECK(sizes_of(grad) == sizes_of(*x) && grad.scalar_type() == x->scalar_type(),
                    "the gradient must have the shape and dtype of x");
  return {need_x ? empty_rows(grad) : torch::stable::new_empty(grad, {0}),
          torch::stable::new_empty(grad, {x ? grad.size(0) : 0}, accumulate_type(grad.scalar_type()))};
}

// One value a row in the type the kernels compute in.
inline Tensor weights(const Tensor& lam, const Tensor& x) {
  return torch::stable::contiguous(*in_accumulate_type_of(lam, x));
}

}  // namespace dfops::mixup

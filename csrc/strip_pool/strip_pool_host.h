// What both host functions do before their loops: checks that keep reads inside the tensors, and allocation.
#pragma once

#include "common/clip_strips.h"
#include "strip_pool/strip_pool.h"

namespace dfops::strip {

inline Filters filters_of(const Tensor& x, const std::optional<Tensor>& weight, int64_t axis,
                          const std::vector<int64_t>& scales) {
  check_clip_axis(x, axis);
  for (const int64_t scale : scales) STD_TORCH_CHECK(scale > 0, "scales must be positive, got ", scale);
  const int64_t count = int64_t(scales.size());
  if (!weight) return {1, count, 0, scales.data(), false};
  STD_TORCH_CHECK(weight->dim() == 4 && weight->size(0) > 0 && weight->size(1) == count &&
                      weight->size(2) == x.size(2) && weight->size(3) % 2 == 1 &&
                      weight->scalar_type() == x.scalar_type(),
                  "weight must be (D, S, C, M) in the dtype of x, M odd, S the number of scales");
  return {weight->size(0), count, weight->size(3), scales.data(), true};
}

inline std::vector<Tensor> new_outputs(const Tensor& x, ClipLayout layout, int64_t axis, const Filters& filters) {
  std::vector<Tensor> out;
  for (int64_t ds = 0; ds < filters.outputs(); ++ds)
    out.push_back(empty_clip(x, with_length(sizes_of(x), axis, x.size(axis) / filters.scale[ds % filters.scales]),
                             layout, x.scalar_type()));
  return out;
}

// The output gradients in the layout of x.
inline std::vector<Tensor> gradients_in_layout(const std::vector<Tensor>& grads, const Tensor& x, ClipLayout layout,
                                               int64_t axis, const Filters& filters) {
  STD_TORCH_CHECK(int64_t(grads.size()) == filters.outputs(), "expected ", filters.outputs(), " gradients, got ",
                  grads.size());
  std::vector<Tensor> result;
  for (int64_t ds = 0; ds < filters.outputs(); ++ds) {
    const auto sizes = with_length(sizes_of(x), axis, x.size(axis) / filters.scale[ds % filters.scales]);
    STD_TORCH_CHECK(sizes_of(grads[ds]) == sizes && grads[ds].scalar_type() == x.scalar_type(), "gradient ", ds,
                    " must have the shape and dtype of output ", ds);
    result.push_back(as_clip(grads[ds], layout));
  }
  return result;
}

}  // namespace dfops::strip

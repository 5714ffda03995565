// What both host functions do before their loops: checks that keep reads inside the tensors, and allocation.
#pragma once

#include <tuple>

#include "common/clip_strips.h"

namespace dfops::strip {

inline Filters filters_of(const Tensor& x, const std::optional<Tensor>& weight, int64_t axis,
                          const std::vector<int64_t>& scales) {
  check_clip_axis("x", x, axis);
  STD_TORCH_CHECK(!scales.empty(), "scales must hold one or more window sizes, got none");
  for (const int64_t scale : scales) STD_TORCH_CHECK(scale > 0, "scales must be positive, got ", scale);
  const int64_t count = int64_t(scales.size());
  if (!weight) return {1, count, 0, scales.data(), false};
  check_axes("weight", *weight, "(D, S, C, M)");
  check_kind("weight", *weight, "x", x);
  STD_TORCH_CHECK(
      weight->size(0) > 0 && weight->size(1) == count && weight->size(2) == x.size(2) && weight->size(3) % 2 == 1,
      "weight must be (D, S, C, M) with D > 0, S = ", count, ", C = ", x.size(2), " and M odd, got ",
      in_words(sizes_of(*weight)));
  return {weight->size(0), count, weight->size(3), scales.data(), true};
}

// What forward and backward share of a call: its sizes, its inputs as the kernels read them. `scales` outlives it.
struct Call {
  Filters filters;
  ClipLayout layout;
  Strips strips;
  std::vector<std::vector<int64_t>> output_sizes;
  Tensor x;
  std::optional<Tensor> weight;

  Call(const Tensor& clip, const std::optional<Tensor>& taps, int64_t axis, const std::vector<int64_t>& scales)
      : filters(filters_of(clip, taps, axis, scales)),
        layout(clip_layout(clip)),
        strips(clip_strips(sizes_of(clip), layout, axis)),
        x(clip) {
    for (int64_t ds = 0; ds < filters.outputs(); ++ds)
      output_sizes.push_back(with_size(sizes_of(clip), axis, clip.size(axis) / scales[ds % filters.scales]));
    if (taps) weight = torch::stable::contiguous(*taps);
  }

  template <class scalar_t>
  const scalar_t* weight_data() const {
    return weight ? data<scalar_t>(*weight) : nullptr;
  }
};

struct ForwardCall : Call {
  std::vector<Tensor> out;

  ForwardCall(const Tensor& clip, const std::optional<Tensor>& taps, int64_t axis, const std::vector<int64_t>& scales)
      : Call(clip, taps, axis, scales) {
    x = as_clip(clip, layout);
    for (const auto& sizes : output_sizes) out.push_back(empty_clip(clip, sizes, layout, clip.scalar_type()));
  }
};

// Without elements of x the results are complete.
struct BackwardCall : Call {
  std::vector<Tensor> grads;
  bool need_x, need_weight;
  Tensor grad_x, grad_weight;

  BackwardCall(const std::vector<Tensor>& all, const Tensor& clip, const std::optional<Tensor>& taps, int64_t axis,
               const std::vector<int64_t>& scales, bool for_x, bool for_weight)
      : Call(clip, taps, axis, scales),
        need_x(for_x),
        need_weight(for_weight && weight && weight->numel() > 0),
        grad_x(nothing_like(clip)),
        grad_weight(nothing_like(clip)) {
    STD_TORCH_CHECK(int64_t(all.size()) == filters.outputs(), "grads must hold ", filters.outputs(),
                    " tensors, one for each output, got ", all.size());
    for (size_t i = 0; i < all.size(); ++i) {
      const std::string name = "grads[" + std::to_string(i) + "]";
      check_sizes(name, all[i], "(B, T, C, H, W)", output_sizes[i]);
      check_kind(name, all[i], "x", clip);
    }
    for (const Tensor& grad : all) grads.push_back(as_clip(grad, layout));
    if (need_weight) x = as_clip(clip, layout);
    if (need_x) grad_x = empty_clip(clip, sizes_of(clip), layout, clip.scalar_type());
    if (for_weight && weight) grad_weight = torch::stable::new_empty(*weight, sizes_of(*weight));
    if (need_weight && clip.numel() == 0) torch::stable::zero_(grad_weight);
  }

  std::tuple<Tensor, Tensor> results() const { return {grad_x, grad_weight}; }
};

}  // namespace dfops::strip

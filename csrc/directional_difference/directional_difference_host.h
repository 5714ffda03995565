// What both host functions do before their loops: checks that keep reads inside the tensors, and allocation.
#pragma once

#include <tuple>

#include "common/clip_strips.h"
#include "directional_difference/directional_difference.h"

namespace dfops::directional {

inline ClipLayout checked_layout(const Tensor& x, const Tensor& weight, int64_t axis) {
  check_clip_axis("x", x, axis);
  STD_TORCH_CHECK(axis != 1, "axis must be 3 or 4, got 1");
  check_axes("weight", weight, "(C, M)");
  check_kind("weight", weight, "x", x);
  STD_TORCH_CHECK(weight.size(0) == x.size(2) && weight.size(1) % 2 == 1, "weight must be (C, M) with C = ", x.size(2),
                  " and M odd, got ", in_words(sizes_of(weight)));
  return clip_layout(x);
}

struct ForwardCall {
  ClipLayout layout;
  Tensor x, weight, out;

  ForwardCall(const Tensor& clip, const Tensor& taps, int64_t axis)
      : layout(checked_layout(clip, taps, axis)),
        x(as_clip(clip, layout)),
        weight(torch::stable::contiguous(taps)),
        out(empty_clip(clip, sizes_of(clip), layout, clip.scalar_type())) {}
};

struct BackwardCall {
  ClipLayout layout;
  Tensor grad, x, weight, grad_x, grad_weight;
  bool finished;  // nothing is left to compute

  BackwardCall(const Tensor& all, const Tensor& clip, const Tensor& taps, int64_t axis, bool need_x, bool need_weight)
      : layout(checked_layout(clip, taps, axis)),
        grad(all),
        x(clip),
        weight(torch::stable::contiguous(taps)),
        grad_x(nothing_like(clip)),
        grad_weight(nothing_like(taps)),
        finished(clip.numel() == 0 || (!need_x && !need_weight)) {
    check_like("grad", all, "x", clip);
    if (need_x) grad_x = empty_clip(clip, sizes_of(clip), layout, clip.scalar_type());
    if (need_weight) grad_weight = torch::stable::new_empty(taps, sizes_of(taps));
    if (need_weight && clip.numel() == 0) torch::stable::zero_(grad_weight);
    grad = as_clip(all, layout);
    if (need_weight) x = as_clip(clip, layout);
  }

  std::tuple<Tensor, Tensor> results() const { return {grad_x, grad_weight}; }
};

}  // namespace dfops::directional

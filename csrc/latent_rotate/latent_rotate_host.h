// What both host functions do before their loops: checks that keep reads inside the tensors, and allocation.
#pragma once

#include <tuple>

#include "common/tensor.h"
#include "latent_rotate/latent_rotate.h"

namespace dfops::rotate {

// What forward and backward share of a call; `maps` are those of x, or of its gradient. One angle a map, in the type
// the kernels compute in.
struct Call {
  ClipLayout layout;
  Maps maps;
  Mode mode;
  Padding padding;
  Tensor angle;

  Call(const char* name, const Tensor& clip, const Tensor& angles, int64_t mode_number, int64_t padding_number)
      : layout(checked_layout(name, clip, angles, mode_number, padding_number)),
        maps{clip.size(0) * clip.size(1), clip.size(2), clip.size(3), clip.size(4),
             layout == ClipLayout::kChannelsLast},
        mode(Mode(mode_number)),
        padding(Padding(padding_number)),
        angle(torch::stable::contiguous(*in_accumulate_type_of(angles, clip))) {}

 private:
  static ClipLayout checked_layout(const char* name, const Tensor& clip, const Tensor& angle, int64_t mode,
                                   int64_t padding) {
    check_clip(name, clip);
    check_numbers("angle", angle, name, clip);
    check_sizes("angle", angle, "(B * T,)", {clip.size(0) * clip.size(1)});
    STD_TORCH_CHECK(mode == 0 || mode == 1, "mode must be 0 or 1, got ", mode);
    STD_TORCH_CHECK(padding >= 0 && padding <= 2, "padding must be 0, 1 or 2, got ", padding);
    return clip_layout(clip);
  }
};

struct ForwardCall : Call {
  Tensor x, out;

  ForwardCall(const Tensor& clip, const Tensor& angles, int64_t mode_number, int64_t padding_number)
      : Call("x", clip, angles, mode_number, padding_number),
        x(as_clip(clip, layout)),
        out(empty_clip(clip, sizes_of(clip), layout, clip.scalar_type())) {}
};

// x is present where the gradient of the angle is needed.
struct BackwardCall : Call {
  Tensor grad, grad_x, grad_angle;
  std::optional<Tensor> x;

  BackwardCall(const Tensor& all, const std::optional<Tensor>& clip, const Tensor& angles, int64_t mode_number,
               int64_t padding_number, bool need_x)
      : Call("grad", all, angles, mode_number, padding_number),
        grad(all),
        grad_x(nothing_like(all)),
        grad_angle(torch::stable::new_empty(all, {clip ? maps.count : 0}, accumulate_type(all.scalar_type()))) {
    if (clip) check_like("x", *clip, "grad", all);
    grad = as_clip(all, layout);
    if (need_x) grad_x = empty_clip(all, sizes_of(all), layout, all.scalar_type());
    const bool constant = all.numel() == 0 || mode == Mode::kNearest;
    if (clip && constant) torch::stable::zero_(grad_angle);
    if (clip && !constant) x = as_clip(*clip, layout);
  }

  std::tuple<Tensor, Tensor> results() const { return {grad_x, grad_angle}; }
};

}  // namespace dfops::rotate
